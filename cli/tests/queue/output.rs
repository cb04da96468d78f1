//! The output of jobs in records.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;

use crate::common::code;
use crate::server::Server;

/// The most bytes of a stream in a record.
const KEPT: usize = 64 * 1024;

/// Writes a byte that JSON writes as six to both streams, and nothing else.
const ESCAPED: &str =
    "head -c 65536 /dev/zero | tr '\\0' '\\1'; head -c 65536 /dev/zero | tr '\\0' '\\1' >&2\n";
/// What is not UTF-8.
const BINARY: &str = "head -c 100000 /dev/zero | tr '\\0' '\\377'\n";
const TEXT: &str = "head -c 100000 /dev/zero | tr '\\0' x; false\n";

/// The output of a stream, and how much was left out.
fn output(record: &Value, stream: &str) -> (Vec<u8>, usize) {
    let bytes = match &record[stream] {
        Value::String(text) => text.clone().into_bytes(),
        Value::Object(_) => {
            let text = record[stream]["base64"].as_str().expect("a text");
            BASE64_STANDARD.decode(text).expect("valid")
        }
        _ => Vec::new(),
    };
    let omitted = record[format!("{stream}_omitted")].as_u64().unwrap_or(0);
    (bytes, usize::try_from(omitted).expect("small"))
}

/// The records of the three jobs, by their numbers.
fn records(server: &Server) -> Vec<Value> {
    server.submit("r", &[], &[ESCAPED, BINARY, TEXT].concat());
    assert_eq!(code(&mut server.command("run", "r", &[])), Some(1));
    let mut records = server.records("r");
    records.sort_by_key(|record| record["job"].as_u64());
    let codes: Vec<_> = records.iter().map(|record| &record["exit_code"]).collect();
    assert_eq!(codes, [0, 0, 1]);
    records
}

#[test]
fn a_record_has_the_last_64_kib_of_each_stream() {
    let Some(server) = Server::start() else {
        return;
    };
    let records = records(&server);
    for stream in ["stdout", "stderr"] {
        assert_eq!(output(&records[0], stream), (vec![1; KEPT], 0));
    }
    let omitted = 100_000 - KEPT;
    assert_eq!(output(&records[1], "stdout"), (vec![0xff; KEPT], omitted));
    assert_eq!(output(&records[2], "stdout"), (vec![b'x'; KEPT], omitted));
    assert_eq!(output(&records[2], "stderr"), (vec![], 0));
}

#[test]
fn a_server_that_accepts_less_gets_records_with_less_output() {
    let Some(server) = Server::with("jetstream { store_dir: STORE }\nmax_payload: 40000") else {
        return;
    };
    let records = records(&server);
    for (record, stream, byte, total) in [
        (&records[0], "stdout", 1, KEPT),
        (&records[0], "stderr", 1, KEPT),
        (&records[1], "stdout", 0xff, 100_000),
        (&records[2], "stdout", b'x', 100_000),
    ] {
        let (bytes, omitted) = output(record, stream);
        assert_eq!(bytes.len() + omitted, total);
        // At least a third of what would fit.
        assert!(bytes.len() > 2000, "{}", bytes.len());
        assert!(bytes.iter().all(|&it| it == byte));
    }
}

#[test]
fn a_server_that_accepts_very_little_gets_records_without_output() {
    let Some(server) = Server::with("jetstream { store_dir: STORE }\nmax_payload: 2100") else {
        return;
    };
    for record in records(&server) {
        let omitted = output(&record, "stdout").1;
        assert!(omitted > 60_000, "{record}");
    }
}
