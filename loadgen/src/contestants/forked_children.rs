//! The children that were forked before the contestant was made, for contestants that block for
//! each child. They end at the same time, after the measurement, so one thread suffices for them.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context, Result};
use exitring::Pid;

use crate::measure::recorder::{Delivery, Recorder, exit_code};

/// A thread that waits for one child after the other.
pub(super) struct ForkedChildren(Sender<(Pid, usize)>);

impl ForkedChildren {
    pub(super) fn new(recorder: Arc<Recorder>) -> Result<Self> {
        let (forked, to_wait_for) = channel::<(Pid, usize)>();
        let wait_for_all = move || {
            for (pid, index) in to_wait_for {
                wait(&recorder, pid, index);
            }
        };
        let thread = std::thread::Builder::new().name("forked".into());
        thread.spawn(wait_for_all).context("starting a thread")?;
        Ok(Self(forked))
    }

    pub(super) fn add(&self, pid: Pid, index: usize) -> Result<()> {
        self.0.send((pid, index)).context("the thread has ended")
    }
}

/// Waits for a child, and delivers its exit.
pub(super) fn wait(recorder: &Recorder, pid: Pid, index: usize) {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer.
    let reaped = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, 0) };
    let delivery = Delivery::begin(index);
    let code = (reaped == pid.as_raw()).then(|| exit_code(status));
    delivery.end(recorder, pid, code.flatten());
}
