//! A fixed number of threads that run jobs, for contestants that block for each child.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};

type Job = Box<dyn FnOnce() -> Result<()> + Send>;

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; `None` after the end.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            let changed = self.changed.wait(state);
            state = changed.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The threads. The drop waits until they have run all jobs.
pub(crate) struct JobThreads {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl JobThreads {
    pub(crate) fn new(count: usize) -> Result<Self> {
        let mut new = Self {
            queue: Arc::default(),
            threads: Vec::with_capacity(count),
        };
        for _ in 0..count {
            let queue = Arc::clone(&new.queue);
            let run = move || {
                while let Some(job) = queue.next() {
                    // An exit that a failed job does not deliver counts as lost.
                    if let Err(error) = job() {
                        eprintln!("loadgen: a child was not watched: {error:#}");
                    }
                }
            };
            let thread = std::thread::Builder::new().name("job".into()).spawn(run);
            new.threads.push(thread.context("starting a thread")?);
        }
        Ok(new)
    }

    pub(crate) fn run(&self, job: impl FnOnce() -> Result<()> + Send + 'static) {
        self.queue.lock().jobs.push_back(Box::new(job));
        self.queue.changed.notify_one();
    }
}

impl Drop for JobThreads {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
