//! The floor: a thread that does nothing but `waitpid(-1)`. No library can offer this, since it
//! reaps every child of the program, whoever's.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::{Context, Result};
use exitring::Pid;

use super::Contestant;
use crate::start::Start;
use crate::tally::{Delivery, Tally, exit_code};

#[derive(Default)]
struct Children {
    index_of: Mutex<HashMap<Pid, usize>>,
    some: Condvar,
}

pub(crate) struct WaitLoop {
    tally: Arc<Tally>,
    children: Arc<Children>,
    started: bool,
}

impl WaitLoop {
    pub(crate) fn new(tally: Arc<Tally>) -> Self {
        Self {
            tally,
            children: Arc::default(),
            started: false,
        }
    }
}

impl Contestant for WaitLoop {
    fn watch(&mut self, pid: Pid, index: usize) -> Result<()> {
        let children = &self.children;
        let mut index_of = children
            .index_of
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        index_of.insert(pid, index);
        children.some.notify_one();
        Ok(())
    }

    fn spawn(&mut self, start: &Start) -> Result<()> {
        // Locked before there is a child, so that the thread finds it when it has ended.
        let children = &self.children;
        let mut index_of = children
            .index_of
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let pid = Pid::try_from(start.command().spawn()?.id())?;
        index_of.insert(pid, start.index());
        children.some.notify_one();
        drop(index_of);
        self.settle()
    }

    /// The thread starts when the first children are there: it must not reap what nobody named.
    fn settle(&mut self) -> Result<()> {
        if self.started {
            return Ok(());
        }
        self.started = true;
        let (children, tally) = (Arc::clone(&self.children), Arc::clone(&self.tally));
        let thread = std::thread::Builder::new().name("wait-loop".into());
        thread
            .spawn(move || wait_loop(&children, &tally))
            .context("starting a thread")?;
        Ok(())
    }
}

fn wait_loop(children: &Children, tally: &Tally) {
    let mut status = 0;
    loop {
        // SAFETY: the pointer is to a live integer.
        let raw = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        let mut index_of = children
            .index_of
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Ok(pid) = Pid::new(raw) else {
            // ECHILD: all are reaped.
            while index_of.is_empty() {
                index_of = children
                    .some
                    .wait(index_of)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            continue;
        };
        let Some(index) = index_of.remove(&pid) else {
            continue;
        };
        drop(index_of);
        let delivery = Delivery::begin(index);
        delivery.end(tally, pid, exit_code(status));
    }
}
