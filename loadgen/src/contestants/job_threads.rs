//! A fixed number of threads that run jobs, for contestants that block for each child.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

type Job = Box<dyn FnOnce() -> Result<()> + Send>;

/// How long the drop waits for jobs. A job whose child's exit is lost can block for ever.
const END_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// The number of threads that have not ended.
    threads: usize,
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

    /// Runs jobs until the end, in a thread.
    fn run(&self) {
        while let Some(job) = self.next() {
            // An exit that a failed job does not deliver counts as lost.
            if let Err(error) = job() {
                eprintln!("loadgen: a child was not watched: {error:#}");
            }
        }
        self.lock().threads -= 1;
        self.changed.notify_all();
    }

    /// Discards the jobs that wait, and waits for those that run, up to a limit. Returns whether all
    /// threads have ended.
    fn close(&self, limit: Duration) -> bool {
        let mut state = self.lock();
        state.closed = true;
        let discarded = mem::take(&mut state.jobs);
        self.changed.notify_all();
        let run = |state: &mut State| state.threads > 0;
        let waited = self.changed.wait_timeout_while(state, limit, run);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let ended = state.threads == 0;
        drop(state);
        drop(discarded);
        ended
    }
}

/// The threads. The drop waits for the jobs that run, but only for a moment: a thread whose job
/// blocks ends with the process.
pub(crate) struct JobThreads {
    queue: Arc<Queue>,
}

impl JobThreads {
    pub(crate) fn new(count: usize) -> Result<Self> {
        let new = Self {
            queue: Arc::default(),
        };
        for _ in 0..count {
            let queue = Arc::clone(&new.queue);
            let thread = std::thread::Builder::new().name("job".into());
            new.queue.lock().threads += 1;
            if let Err(error) = thread.spawn(move || queue.run()) {
                new.queue.lock().threads -= 1;
                return Err(error).context("starting a thread");
            }
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
        self.queue.close(END_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn the_drop_gives_up_a_job_that_blocks_and_discards_those_that_wait() {
        let threads = JobThreads::new(1).expect("a thread starts");
        let queue = Arc::clone(&threads.queue);
        let (started, has_started) = channel();
        let (release, released) = channel::<()>();
        threads.run(move || {
            started.send("first")?;
            // An error when the sender is dropped.
            let _ = released.recv();
            Ok(())
        });
        assert_eq!(has_started.recv(), Ok("first"));
        threads.run(|| panic!("it is discarded"));
        drop(threads);
        assert!(!queue.close(Duration::ZERO), "the first job blocks");
        drop(release);
        assert!(queue.close(Duration::from_secs(60)), "the thread ends");
    }
}
