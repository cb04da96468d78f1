//! Errors of the library, as clients get them.

use std::io;

use exitring::CgroupError;
use exitring_protocol::{Code, Error};

pub(super) fn refusal(error: &CgroupError) -> Error {
    let code = match error {
        _ if error.is_throttling() => Code::Exhausted,
        CgroupError::LimitRefused { .. } => Code::OutOfRange,
        CgroupError::NoController { .. }
        | CgroupError::NotDelegated { .. }
        | CgroupError::HasProcesses { .. }
        | CgroupError::Threaded { .. } => Code::Unsupported,
        _ => Code::Failed,
    };
    Error::new(code, format!("the cgroup of the service: {error}"))
}

/// The refusal when a leaf that was just made cannot be used.
pub(super) fn unusable(error: &io::Error) -> Error {
    let code = match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Code::Exhausted,
        _ => Code::Failed,
    };
    Error::new(
        code,
        format!("the cgroup of the child cannot be used: {error}"),
    )
}

/// The refusal of a service that was started without a cgroup.
pub(super) fn no_cgroup() -> Error {
    let message = "this service has no cgroup for its children; start it with --cgroup and the path of a delegated cgroup v2, or leave out cgroup";
    Error::new(Code::Unsupported, message)
}
