//! Refusals that several requests share.

use exitring_protocol::{Code, Error};

pub(crate) fn stopping() -> Error {
    Error::new(
        Code::Stopping,
        "the service is stopping or restarting; connect again",
    )
}

/// An error of the service itself, most often for lack of descriptors or memory.
pub(crate) fn exhausted(error: std::io::Error) -> Error {
    let code = match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN) => Code::Exhausted,
        _ => Code::Failed,
    };
    Error::new(code, format!("the service failed: {error}"))
}

pub(crate) fn panicked() -> Error {
    Error::new(
        Code::Failed,
        "a thread of the service panicked; see its log",
    )
}
