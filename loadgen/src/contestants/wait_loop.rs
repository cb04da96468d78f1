//! The lower bound: a thread that only calls `waitpid(-1)`. A library cannot offer this, because it
//! reaps every child of the program, also those that another part of the program reaps.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::{Context, Result};
use exitring::Pid;

use super::contestant::Contestant;
use crate::measure::recorder::{Delivery, Recorder, exit_code};
use crate::measure::spawn_request::SpawnRequest;

#[derive(Default)]
struct Children {
    index_of: Mutex<HashMap<Pid, usize>>,
    not_empty: Condvar,
}

pub(crate) struct WaitLoop {
    recorder: Arc<Recorder>,
    children: Arc<Children>,
    started: bool,
}

impl WaitLoop {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Self {
        Self {
            recorder,
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
        children.not_empty.notify_one();
        Ok(())
    }

    fn spawn(&mut self, request: &SpawnRequest) -> Result<Option<Pid>> {
        // The map is locked before the child starts, so that the thread finds it there at its exit.
        let children = &self.children;
        let mut index_of = children
            .index_of
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let pid = Pid::try_from(request.command().spawn()?.id())?;
        index_of.insert(pid, request.index());
        children.not_empty.notify_one();
        drop(index_of);
        self.wait_until_registered()?;
        Ok(Some(pid))
    }

    /// Starts the thread when the first children are known. It must not reap unknown children.
    fn wait_until_registered(&mut self) -> Result<()> {
        if self.started {
            return Ok(());
        }
        self.started = true;
        let (children, recorder) = (Arc::clone(&self.children), Arc::clone(&self.recorder));
        let thread = std::thread::Builder::new().name("wait-loop".into());
        thread
            .spawn(move || wait_loop(&children, &recorder))
            .context("starting a thread")?;
        Ok(())
    }
}

fn wait_loop(children: &Children, recorder: &Recorder) {
    let mut status = 0;
    loop {
        // SAFETY: the pointer is to a live integer.
        let raw = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        let mut index_of = children
            .index_of
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Ok(pid) = Pid::new(raw) else {
            // ECHILD: all children are reaped.
            while index_of.is_empty() {
                index_of = children
                    .not_empty
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
        delivery.end(recorder, pid, exit_code(status));
    }
}
