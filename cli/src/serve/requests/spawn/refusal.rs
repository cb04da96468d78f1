//! Refusals of a request before anything is started.

use exitring_protocol::{Code, Error};

pub(super) fn out_of_range(message: String) -> Error {
    Error::new(Code::OutOfRange, message)
}
