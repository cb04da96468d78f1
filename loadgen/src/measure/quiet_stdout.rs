//! Standard output of the children of a run.

use anyhow::{Context, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::stdio::{dup2_stdout, stdout};

/// Makes `/dev/null` the standard output of this process until it is dropped.
///
/// The standard output of a run is the pipe of its result. Children that inherit it and write to it
/// would spoil the result, and those that outlive the run would keep it open.
pub(crate) struct QuietStdout(OwnedFd);

impl QuietStdout {
    pub(crate) fn new() -> Result<Self> {
        let saved = fcntl_dupfd_cloexec(stdout(), 3).context("duplicating standard output")?;
        let null = open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .context("opening /dev/null")?;
        dup2_stdout(&null).context("replacing standard output")?;
        Ok(Self(saved))
    }
}

impl Drop for QuietStdout {
    fn drop(&mut self) {
        let _ = dup2_stdout(&self.0);
    }
}
