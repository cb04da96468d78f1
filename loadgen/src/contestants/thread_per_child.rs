//! A thread for each child, in `waitpid(pid)`, with a small stack.

use std::sync::Arc;

use anyhow::{Context, Result};
use exitring::Pid;

use super::Contestant;
use crate::tally::{Delivery, Tally, exit_code};

const STACK_BYTES: usize = 32 << 10;

pub(crate) struct ThreadPerChild {
    tally: Arc<Tally>,
}

impl ThreadPerChild {
    pub(crate) fn new(tally: Arc<Tally>) -> Self {
        Self { tally }
    }
}

impl Contestant for ThreadPerChild {
    fn watch(&mut self, pid: Pid, index: usize) -> Result<()> {
        let tally = Arc::clone(&self.tally);
        std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let mut status = 0;
                // SAFETY: the pointer is to a live integer.
                let reaped = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, 0) };
                let delivery = Delivery::begin(index);
                let code = (reaped == pid.as_raw()).then(|| exit_code(status));
                delivery.end(&tally, pid, code.flatten());
            })
            .context("starting a thread")?;
        Ok(())
    }
}
