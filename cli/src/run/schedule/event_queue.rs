//! What the conductor is told by the threads that read and start jobs.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use exitring::Child;
use jiff::Timestamp;
use rustix::event::{EventfdFlags, eventfd};

use crate::failure::Failure;
use crate::run::job::Job;

/// What happened.
pub(crate) enum News {
    /// A job runs.
    Started(Box<Started>),
    /// A job could not be started, by its own fault.
    NotStarted {
        job: Job,
        when: When,
        why: NotStarted,
    },
    /// Something ran out, so no more than this run at a time for now.
    Crowded { room: usize, why: String },
    /// The list cannot be read on, or nothing can be started at all.
    Stuck(Failure),
    /// A job that had room is not started any more.
    PutDown,
    /// The ends of jobs are not told any more.
    Lost(Failure),
    /// The list was read to its end.
    Read,
}

/// Why a job was not started, and the exit code that a shell gives for that.
#[derive(Debug)]
pub(crate) struct NotStarted {
    pub(crate) why: String,
    pub(crate) code: i32,
}

impl NotStarted {
    /// There is no such program.
    pub(crate) fn not_found(why: impl Into<String>) -> Self {
        let why = why.into();
        Self { why, code: 127 }
    }

    /// There is one, or there is a line, and it cannot be executed.
    pub(crate) fn not_executable(why: impl Into<String>) -> Self {
        let why = why.into();
        Self { why, code: 126 }
    }
}

/// When a job was started, on the clock that measures and on the one that people read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct When {
    pub(crate) instant: Instant,
    pub(crate) time: Timestamp,
}

impl When {
    pub(crate) fn now() -> Self {
        Self {
            instant: Instant::now(),
            time: Timestamp::now(),
        }
    }
}

/// A job that runs.
pub(crate) struct Started {
    pub(crate) job: Job,
    pub(crate) when: When,
    pub(crate) child: Child,
    /// Standard output and error, where they are ours to pass on.
    pub(crate) pipes: [Option<OwnedFd>; 2],
}

pub(crate) struct Inbox {
    state: Mutex<State>,
    bell: OwnedFd,
}

#[derive(Default)]
struct State {
    news: Vec<News>,
    /// The conductor wants to know at once of each job that runs.
    alert: bool,
}

impl Inbox {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            state: Mutex::default(),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the conductor, and wakes it.
    pub(crate) fn tell(&self, news: News) {
        self.lock().news.push(news);
        self.ring();
    }

    /// Tells the conductor of a job that runs, which wakes it when there is something to do about it. `subscribe` sees to
    /// that, and is called under the lock: whatever comes of it at once, the conductor finds the job here
    /// before it.
    pub(crate) fn started(
        &self,
        started: Started,
        subscribe: impl FnOnce(&Started) -> Result<(), News>,
    ) {
        let mut state = self.lock();
        let subscribed = subscribe(&started);
        state.news.push(News::Started(Box::new(started)));
        let alert = state.alert || subscribed.is_err();
        state.news.extend(subscribed.err());
        drop(state);
        if alert {
            self.ring();
        }
    }

    /// Takes all there is, in exchange for an empty vector.
    pub(crate) fn take(&self, news: &mut Vec<News>) {
        debug_assert!(news.is_empty(), "news would be lost");
        mem::swap(&mut self.lock().news, news);
    }

    /// From now on the conductor is woken for each job that runs.
    pub(crate) fn alert(&self) {
        self.lock().alert = true;
    }

    pub(crate) fn ring(&self) {
        // Full is as good as rung.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Makes it silent again.
    pub(crate) fn hush(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0_u8; 8]);
    }
}

impl AsFd for Inbox {
    /// Readable when it was rung.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
