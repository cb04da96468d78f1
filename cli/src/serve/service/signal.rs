//! Sends signals to watched processes.

use std::os::fd::AsFd;

use exitring_protocol::{Code, Error};

use super::errors::exhausted;
use super::shared::Service;
use crate::serve::sys::process;
use crate::serve::watches::WatchInfo;

impl Service {
    /// Sends a signal with the permissions of a user.
    pub(crate) fn signal(
        &self,
        info: &WatchInfo,
        uid: u32,
        signal: i32,
        group: bool,
    ) -> Result<(), Error> {
        if !(0..=64).contains(&signal) {
            let message = format!("there is no signal {signal}; use 1 to 64");
            return Err(Error::new(Code::OutOfRange, message));
        }
        let ended = || {
            let message = format!("the process of watch {} has ended", info.id);
            Error::new(Code::NoSuchProcess, message)
        };
        let pidfd = info.open_pidfd().map_err(exhausted)?.ok_or_else(ended)?;
        // A service of root may signal every process, but the user may not.
        let sent = match self.uid == 0 && uid != 0 {
            true => process::signal_as(uid, pidfd.as_fd(), signal, group),
            false => process::signal(pidfd.as_fd(), signal, group),
        };
        sent.map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => ended(),
            Some(libc::EPERM) => {
                let message = format!("process {} now runs as another user", info.pid);
                Error::new(Code::Denied, message)
            }
            Some(libc::EAGAIN | libc::ENOMEM) => exhausted(error),
            Some(libc::EINVAL) if group => {
                Error::new(Code::Unsupported, "signals to groups need Linux 6.9")
            }
            _ => Error::new(Code::Failed, format!("cannot send the signal: {error}")),
        })
    }
}
