//! The floor: a thread that does nothing but `waitpid(-1)`. No library can offer this, since it
//! reaps every child of the program, whoever's.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use exitring::Pid;

use super::Contestant;
use crate::tally::{Delivery, Tally};

#[derive(Default)]
pub(crate) struct WaitLoop {
    thread: Option<JoinHandle<()>>,
}

impl Contestant for WaitLoop {
    fn name(&self) -> String {
        "bare wait loop".into()
    }

    fn watch_all(&mut self, tally: &Arc<Tally>) -> Result<()> {
        let tally = Arc::clone(tally);
        let pids = tally.children.pids();
        let index_of: HashMap<Pid, usize> = pids.iter().copied().zip(0..).collect();
        let thread = std::thread::Builder::new()
            .name("wait-loop".into())
            .spawn(move || {
                let mut status = 0;
                loop {
                    // SAFETY: the pointer is to a live integer.
                    let raw = unsafe { libc::waitpid(-1, &raw mut status, 0) };
                    let Ok(pid) = Pid::new(raw) else {
                        // ECHILD: all are reaped.
                        return;
                    };
                    let Some(&index) = index_of.get(&pid) else {
                        continue;
                    };
                    let delivery = Delivery::begin(index);
                    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
                    delivery.end(&tally, pid, code);
                }
            })
            .context("starting a thread")?;
        self.thread = Some(thread);
        Ok(())
    }
}

impl Drop for WaitLoop {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
