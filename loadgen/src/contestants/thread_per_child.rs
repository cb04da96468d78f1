//! A thread with a small stack per child, in `waitpid(pid)`.

use std::sync::Arc;

use anyhow::{Context, Result};
use exitring::Pid;

use super::contestant::Contestant;
use crate::measure::recorder::{Delivery, Recorder, exit_code};

const STACK_BYTES: usize = 32 << 10;

pub(crate) struct ThreadPerChild {
    recorder: Arc<Recorder>,
}

impl ThreadPerChild {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Self {
        Self { recorder }
    }
}

impl Contestant for ThreadPerChild {
    fn watch(&mut self, pid: Pid, index: usize) -> Result<()> {
        let recorder = Arc::clone(&self.recorder);
        std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let mut status = 0;
                // SAFETY: the pointer is to a live integer.
                let reaped = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, 0) };
                let delivery = Delivery::begin(index);
                let code = (reaped == pid.as_raw()).then(|| exit_code(status));
                delivery.end(&recorder, pid, code.flatten());
            })
            .context("starting a thread")?;
        Ok(())
    }
}
