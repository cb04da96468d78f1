//! The lower bound: a thread that only calls `waitpid(-1)`. A library cannot offer this, because it
//! reaps every child of the program, also those that another part of the program reaps.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use exitring::Pid;

use super::contestant::Contestant;
use crate::measure::recorder::{Delivery, Recorder, exit_code};
use crate::measure::spawn_request::SpawnRequest;

/// A child is started without a lock, so it can be reaped before its slot is known.
#[derive(Default)]
struct Table {
    /// The slots of children that are not reaped.
    index_of: HashMap<Pid, usize>,
    /// The statuses of children whose slots are not known.
    status_of: HashMap<Pid, i32>,
}

impl Table {
    /// Adds a child. Returns its status if it was reaped before.
    fn add(&mut self, pid: Pid, index: usize) -> Option<i32> {
        let status = self.status_of.remove(&pid);
        if status.is_none() {
            self.index_of.insert(pid, index);
        }
        status
    }

    /// Removes a child that was reaped. Returns its slot if it was added before.
    fn reap(&mut self, pid: Pid, status: i32) -> Option<usize> {
        let index = self.index_of.remove(&pid);
        if index.is_none() {
            self.status_of.insert(pid, status);
        }
        index
    }
}

#[derive(Default)]
struct Children {
    table: Mutex<Table>,
    not_empty: Condvar,
}

impl Children {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let reaped = self.children.lock().add(pid, index);
        match reaped {
            Some(status) => deliver(&self.recorder, pid, index, status),
            None => self.children.not_empty.notify_one(),
        }
        Ok(())
    }

    fn spawn(&mut self, request: &SpawnRequest) -> Result<Option<Pid>> {
        let pid = Pid::try_from(request.command().spawn()?.id())?;
        self.watch(pid, request.index())?;
        self.wait_until_registered()?;
        Ok(Some(pid))
    }

    /// Starts the thread when the first children are known. It must not reap children of others.
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
        let mut table = children.lock();
        let Ok(pid) = Pid::new(raw) else {
            // ECHILD: all children are reaped.
            let none = |table: &mut Table| table.index_of.is_empty();
            drop(children.not_empty.wait_while(table, none));
            continue;
        };
        let index = table.reap(pid, status);
        drop(table);
        if let Some(index) = index {
            deliver(recorder, pid, index, status);
        }
    }
}

fn deliver(recorder: &Recorder, pid: Pid, index: usize, status: i32) {
    Delivery::begin(index).end(recorder, pid, exit_code(status));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_delivered_once_whether_it_is_added_or_reaped_first() {
        let [first, second] = [100, 101].map(|pid| Pid::new(pid).expect("a pid"));
        let mut table = Table::default();
        assert_eq!(table.add(first, 1), None);
        assert_eq!(table.reap(second, 7), None, "its slot is not known");
        assert_eq!(table.reap(first, 9), Some(1));
        assert_eq!(table.add(second, 2), Some(7));
        assert!(table.index_of.is_empty() && table.status_of.is_empty());
        // The pid is used again.
        assert_eq!(table.add(second, 3), None);
        assert_eq!(table.reap(second, 0), Some(3));
    }
}
