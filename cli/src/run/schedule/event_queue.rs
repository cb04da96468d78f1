//! Events that the reader and the spawners report to the supervisor.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use exitring::Child;
use rustix::event::{EventfdFlags, eventfd};

use crate::failure::Failure;
use crate::run::job::{Job, StartTime};
use crate::run::start_error::StartError;

/// An event for the supervisor.
pub(crate) enum Event {
    /// A job was started.
    Started(Box<StartedJob>),
    /// A job could not be started, because of its own command.
    NotStarted {
        job: Box<Job>,
        start_time: StartTime,
        error: StartError,
    },
    /// A resource ran out, and the number of jobs that run at a time was reduced.
    CapacityReduced { capacity: usize, reason: String },
    /// The list cannot be read further, or no job can be started at all.
    CannotContinue(Failure),
    /// The pipes of the last job that was started are not read. It would wait for ever when they
    /// are full.
    CannotReadPipes(Failure),
    /// The run ends, and with it the jobs that run.
    #[cfg(feature = "queue")]
    EndNow(Failure),
    /// A job of a queue is not run again, because its workers were lost each time.
    #[cfg(feature = "queue")]
    GivenUp { job: Box<Job>, why: String },
    /// A job that had a permit is not started.
    StartDropped,
    /// The watcher no longer reports the ends of jobs.
    WatcherFailed(Failure),
    /// A message about the list.
    Notice(String),
    /// The list was read to its end.
    ListRead,
}

/// A job that was started.
pub(crate) struct StartedJob {
    pub(crate) job: Job,
    pub(crate) start_time: StartTime,
    pub(crate) child: Child,
    /// Standard output and error, where the run forwards them.
    pub(crate) pipes: [Option<OwnedFd>; 2],
}

pub(crate) struct EventQueue {
    state: Mutex<State>,
    eventfd: OwnedFd,
}

#[derive(Default)]
struct State {
    events: Vec<Event>,
    /// The supervisor is woken up for each job that starts.
    wake_on_start: bool,
}

impl EventQueue {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            state: Mutex::default(),
            eventfd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics half-way through a change under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an event and wakes up the supervisor.
    pub(crate) fn push(&self, event: Event) {
        self.lock().events.push(event);
        self.set_readable();
    }

    /// Queues a job that was started. The supervisor is woken up only if it must act. `subscribe`
    /// registers the job, and is called under the lock: when the first event of the job arrives,
    /// the supervisor finds the job in the queue.
    pub(crate) fn push_started(
        &self,
        started: StartedJob,
        subscribe: impl FnOnce(&StartedJob) -> Result<(), Event>,
    ) {
        let mut state = self.lock();
        let subscribed = subscribe(&started);
        state.events.push(Event::Started(Box::new(started)));
        let wake = state.wake_on_start || subscribed.is_err();
        state.events.extend(subscribed.err());
        drop(state);
        if wake {
            self.set_readable();
        }
    }

    /// Takes all events, in exchange for an empty vector.
    pub(crate) fn take(&self, events: &mut Vec<Event>) {
        debug_assert!(events.is_empty(), "events would be lost");
        mem::swap(&mut self.lock().events, events);
    }

    /// Wakes up the supervisor for each job that starts from now on.
    pub(crate) fn wake_on_start(&self) {
        self.lock().wake_on_start = true;
    }

    pub(crate) fn set_readable(&self) {
        // A write fails only if the counter is at its maximum, and then the eventfd is readable
        // already.
        let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
    }

    /// Makes the eventfd not readable again.
    pub(crate) fn clear_readable(&self) {
        let _ = rustix::io::read(&self.eventfd, &mut [0_u8; 8]);
    }
}

impl AsFd for EventQueue {
    /// Readable after `set_readable`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}
