//! The lines that the service sends.

use std::io;

use exitring_protocol::{Answer, Code, Error, RequestId, ServerLine};

use super::line_socket::LineSocket;
use crate::serve::service::Service;

/// The bytes of a line.
pub(super) fn encode(line: &ServerLine) -> Vec<u8> {
    let mut text =
        serde_json::to_vec(line).expect("a line has no maps with keys that are not strings");
    text.push(b'\n');
    text
}

/// The reply to a request.
pub(super) fn reply(
    service: &Service,
    id: Option<RequestId>,
    answer: Result<Answer, Error>,
) -> Vec<u8> {
    encode(&match answer {
        Ok(answer) => ServerLine::Ok {
            id,
            ok: Box::new(answer),
        },
        Err(error) => {
            count_refusal(service, error.code);
            ServerLine::Error { id, error }
        }
    })
}

/// Sends the error for which a connection is closed.
pub(super) async fn send_error(
    service: &Service,
    socket: &LineSocket,
    error: Error,
) -> io::Result<()> {
    count_refusal(service, error.code);
    socket
        .write(&encode(&ServerLine::Error { id: None, error }))
        .await
}

fn count_refusal(service: &Service, code: Code) {
    let code = serde_json::to_value(code).ok();
    let code = code
        .as_ref()
        .and_then(|code| code.as_str())
        .unwrap_or("other");
    let code = vec![("code".into(), code.into())];
    service.metrics.refused.get_or_create(&code).inc();
}
