//! Decodes arbitrary lines: each yields a request or an error, and a request survives a round trip.

#![no_main]

use exitring_protocol::{ClientLine, LINE_MAX, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    if line.len() > LINE_MAX {
        return;
    }
    let decoded = decode(line);
    match decoded.request {
        Ok(request) => {
            let line = ClientLine {
                id: decoded.id,
                request,
            };
            let text = serde_json::to_vec(&line).expect("a request can be encoded");
            let again = decode(&text);
            assert_eq!(again.id, line.id);
            assert_eq!(again.request.as_ref(), Ok(&line.request));
        }
        Err(error) => {
            // The message may quote the line, but must not be much longer.
            assert!(
                error.message.len() < 2 * line.len() + 1000,
                "{}",
                error.message.len()
            );
        }
    }
});
