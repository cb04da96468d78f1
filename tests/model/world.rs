//! The watcher under test with its processes, callbacks and queue, and what the model expects.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use exitring::{Backend, CallbackId, Cancel, Closed, Exits, WaitError, Watcher};

use crate::action::Action;
use crate::common::{TEST_TIMEOUT, until, until_stats};
use crate::process::{Handle, Process, waitpid};

/// A callback, and whether it must run.
struct Callback {
    process: usize,
    /// The index of the handle among those of the process.
    handle: usize,
    id: CallbackId,
    runs: Arc<AtomicU32>,
    cancelled: bool,
}

impl Callback {
    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }

    fn expected_runs(&self) -> u32 {
        u32::from(!self.cancelled)
    }
}

pub struct World {
    watcher: Watcher,
    exits: Exits,
    processes: Vec<Process>,
    callbacks: Vec<Callback>,
    /// The index of the process for each tag in the queue.
    tags: HashMap<u64, usize>,
    /// How often a callback got the exit of a wrong process.
    wrong: Arc<AtomicU32>,
}

impl World {
    pub fn new(backend: Backend, workers: usize, capacity: usize) -> Self {
        let builder = Watcher::builder().backend(backend).workers(workers);
        let watcher = builder.queue_capacity(capacity).build().unwrap();
        Self {
            exits: watcher.exits(64).unwrap(),
            watcher,
            processes: Vec::new(),
            callbacks: Vec::new(),
            tags: HashMap::new(),
            wrong: Arc::default(),
        }
    }

    /// Performs an action, or nothing if it does not apply.
    pub fn perform(&mut self, action: &Action) {
        match *action {
            Action::ForkOwned => self.fork(true),
            Action::Fork => self.fork(false),
            Action::Cancel(number) => self.cancel(number),
            Action::Yield => std::thread::sleep(Duration::from_micros(200)),
            Action::Watch(number)
            | Action::DropHandle(number)
            | Action::OnExit(number)
            | Action::Add(number)
            | Action::Exit(number, _)
            | Action::Kill(number)
            | Action::Stop(number)
            | Action::Reap(number)
            | Action::Wait(number) => {
                if let Some(index) = number.checked_rem(self.processes.len()) {
                    self.perform_on(index, action);
                }
            }
        }
    }

    fn perform_on(&mut self, index: usize, action: &Action) {
        let process = &mut self.processes[index];
        match *action {
            Action::Watch(_) => self.watch(index),
            Action::DropHandle(_) => self.drop_handle(index),
            Action::OnExit(_) => self.add_callback(index),
            Action::Add(_) => self.add_to_queue(index),
            Action::Exit(_, code) => process.exit(code),
            Action::Kill(_) => process.kill(),
            Action::Stop(_) => process.stop_and_continue(),
            Action::Reap(_) => process.reap(),
            Action::Wait(_) => {
                if let (Some(handle), Some(_)) = (process.handles.last(), process.fate) {
                    process.check(handle);
                }
            }
            Action::ForkOwned | Action::Fork | Action::Cancel(_) | Action::Yield => {
                unreachable!("{action:?} is not about one process")
            }
        }
    }

    fn fork(&mut self, owned: bool) {
        let mut process = Process::fork(owned);
        if owned {
            let child = self.watcher.adopt_pid(process.pid).unwrap();
            process.handles.push(Handle::Owned(child));
        }
        self.processes.push(process);
    }

    fn watch(&mut self, index: usize) {
        let process = &mut self.processes[index];
        // An owned child has its own handle only: the watcher may reap it at any moment.
        if process.owned || process.reaped {
            return;
        }
        let watch = self.watcher.watch(process.pid).unwrap();
        process.handles.push(Handle::Watched(watch));
    }

    fn drop_handle(&mut self, index: usize) {
        let process = &mut self.processes[index];
        // Callbacks know their handle by its index: only the last handle can be dropped, if it has
        // no callbacks.
        let last = process.handles.len().wrapping_sub(1);
        let in_use = |callback: &Callback| callback.process == index && callback.handle == last;
        if process.handles.len() > 1 && !self.callbacks.iter().any(in_use) {
            process.handles.pop();
        }
    }

    fn add_callback(&mut self, index: usize) {
        let process = &self.processes[index];
        let Some(handle) = process.handles.len().checked_sub(1) else {
            return;
        };
        let runs = Arc::new(AtomicU32::new(0));
        let (counter, wrong, pid) = (Arc::clone(&runs), Arc::clone(&self.wrong), process.pid);
        let id = process.handles[handle]
            .on_exit(move |exit| {
                counter.fetch_add(1, Ordering::SeqCst);
                wrong.fetch_add(u32::from(exit.pid() != pid), Ordering::SeqCst);
            })
            .unwrap();
        self.callbacks.push(Callback {
            process: index,
            handle,
            id,
            runs,
            cancelled: false,
        });
    }

    fn cancel(&mut self, number: usize) {
        let Some(index) = number.checked_rem(self.callbacks.len()) else {
            return;
        };
        let callback = &mut self.callbacks[index];
        let process = &self.processes[callback.process];
        match process.handles[callback.handle].cancel(callback.id) {
            Cancel::Cancelled => {
                assert!(!callback.cancelled && callback.runs() == 0);
                callback.cancelled = true;
            }
            // The callback has returned, or was cancelled before.
            Cancel::NotPending => assert_eq!(callback.runs(), callback.expected_runs()),
            other => panic!("{other:?}, and this is no callback"),
        }
        let ran = callback.runs() > 0;
        assert!(!ran || process.fate.is_some(), "the process runs");
    }

    fn add_to_queue(&mut self, index: usize) {
        let Some(handle) = self.processes[index].handles.last() else {
            return;
        };
        let tag = self.tags.len() as u64;
        if self.exits.add(handle, tag).is_ok() {
            self.tags.insert(tag, index);
        }
    }

    /// Ends all processes, and checks that everything was reported.
    pub fn end(mut self) {
        for process in &mut self.processes {
            process.exit(42);
        }
        for process in &self.processes {
            for handle in &process.handles {
                process.check(handle);
            }
        }
        self.check_queue();
        for callback in &self.callbacks {
            until("each callback has run", || {
                callback.runs() >= callback.expected_runs()
            });
        }
        until_stats(&self.watcher, "nothing is watched", |stats| {
            stats.watched == 0
        });
        drop(self.watcher);
        for callback in &self.callbacks {
            assert_eq!(callback.runs(), callback.expected_runs());
        }
        assert_eq!(self.wrong.load(Ordering::SeqCst), 0);
        for process in &self.processes {
            let fate = process.fate.expect("all have ended");
            match (process.owned, process.reaped) {
                // The watcher does not reap a process that it only watches.
                (false, false) => assert_eq!(waitpid(process.pid), fate),
                (false, true) => {}
                (true, _) => assert!(process.is_reaped(), "the watcher reaps an owned child"),
            }
        }
    }

    fn check_queue(&mut self) {
        while let Some(tagged) = self.exits.recv_timeout(TEST_TIMEOUT).unwrap() {
            let process = self.tags.remove(&tagged.tag);
            let process = process.expect("each tag is received once");
            assert_eq!(tagged.exit.pid(), self.processes[process].pid);
        }
        assert!(self.tags.is_empty(), "{:?} were not received", self.tags);
    }

    /// Drops the watcher while processes run: no callback runs afterwards, no wait blocks for ever,
    /// and owned children are reaped.
    pub fn drop_early(mut self) {
        drop(self.watcher);
        let runs_before: Vec<_> = self.callbacks.iter().map(Callback::runs).collect();
        for process in &mut self.processes {
            process.exit(42);
        }
        for process in &self.processes {
            for handle in &process.handles {
                match handle.wait_timeout(TEST_TIMEOUT) {
                    Ok(Some(_)) => process.check(handle),
                    Ok(None) => panic!("the wait blocks for ever"),
                    Err(error) => assert_eq!(error, WaitError::Closed(Closed::Dropped)),
                }
                let added = handle.on_exit(|_| panic!("the watcher is dropped"));
                assert!(added.is_err());
            }
            match (process.owned, process.reaped) {
                (true, _) => until("the owned child is reaped", || process.is_reaped()),
                (false, true) => {}
                (false, false) => assert_eq!(Some(waitpid(process.pid)), process.fate),
            }
        }
        for (callback, before) in self.callbacks.iter().zip(runs_before) {
            assert!(before <= callback.expected_runs());
            assert_eq!(callback.runs(), before);
        }
        assert_eq!(self.wrong.load(Ordering::SeqCst), 0);
    }
}
