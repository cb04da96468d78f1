//! The queue of jobs that wait to start, and the limit on those that run.

mod holds;
#[cfg(feature = "queue")]
mod leased;
pub(crate) mod shared_limit;
mod shortage;
mod state;

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::state::State;
use super::claims::Claims;
use super::delayed_jobs::{DelayedJobs, Retry};
use super::slots::Slots;
use crate::run::job::Job;

/// The most jobs that are queued. It is large enough that no spawner waits for the reader.
const QUEUE_MAX: usize = 1024;
/// The reader sleeps until the queue is this short.
const QUEUE_REFILL: usize = QUEUE_MAX / 2;

/// A longer delay counts as this long: a hundred years.
const DELAY_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A bounded queue of jobs, and a bounded number of active jobs.
pub(crate) struct Admission {
    state: Mutex<State>,
    /// For the spawners.
    can_start: Condvar,
    /// For the reader.
    wants_input: Condvar,
}

impl Admission {
    /// Starts follow one another after `delay` at the earliest.
    pub(crate) fn new(capacity: usize, capacity_limit: usize, delay: Option<Duration>) -> Self {
        Self {
            state: Mutex::new(State {
                queued: VecDeque::new(),
                retries: VecDeque::new(),
                delayed: DelayedJobs::default(),
                active: 0,
                slots: Slots::default(),
                capacity,
                capacity_max: capacity,
                capacity_limit,
                shortage: None,
                deferred: 0,
                released: 0,
                input_ended: false,
                closed: false,
                paused: false,
                sleeping_spawners: 0,
                reader_sleeping: false,
                delay: delay.map(|delay| delay.min(DELAY_MAX)),
                next_start: None,
                tokens: None,
                claims: Claims::default(),
                conditions: None,
                hold_reason: None,
            }),
            can_start: Condvar::new(),
            wants_input: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics half-way through a change under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- for the reader

    /// Submits jobs, and blocks while the queue is full. Returns `false` if no more jobs are
    /// accepted.
    pub(crate) fn submit(&self, jobs: &mut Vec<Job>) -> bool {
        let mut state = self.lock();
        state.queued.extend(jobs.drain(..));
        self.wake_spawners(&state);
        if state.unstarted() >= QUEUE_MAX {
            while state.unstarted() > QUEUE_REFILL && !state.closed {
                state.reader_sleeping = true;
                state = self
                    .wants_input
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            state.reader_sleeping = false;
        }
        !state.closed
    }

    /// Ends the input.
    pub(crate) fn end_input(&self) {
        let mut state = self.lock();
        state.input_ended = true;
        // A spawner without a job has nothing left to wait for.
        self.can_start.notify_all();
    }

    // ---- for the spawners

    /// The next job, in a slot, once there is a job and capacity for it. `None`: all jobs have ended, and no
    /// more will start. It does not return `None` sooner, because the kernel ties
    /// `PR_SET_PDEATHSIG` to the parent *thread*: a job that asked for this signal would get it
    /// when the thread that started the job ends.
    pub(crate) fn acquire(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.is_over() {
                return None;
            }
            state.end_delays();
            if state.grow_capacity() {
                self.wake_spawners(&state);
            }
            let may_start = !state.closed && !state.paused && state.used() < state.capacity;
            if may_start && let Some(pause) = state.pause() {
                state.return_unused();
                state.sleeping_spawners += 1;
                let woken = self.can_start.wait_timeout(state, pause);
                (state, _) = woken.unwrap_or_else(PoisonError::into_inner);
                state.sleeping_spawners -= 1;
                continue;
            }
            let next_can_start = may_start && state.next_can_start();
            if !next_can_start {
                // Nor can another spawner start one. A change of that is an event that wakes one up.
                state.return_unused();
            }
            if next_can_start
                && state.has_token()
                && let Some(mut job) = state.next()
            {
                if let Some(delay) = state.delay {
                    state.next_start = Some(Instant::now() + delay);
                }
                state.active += 1;
                job.slot = state.slots.take();
                if let Some(claim) = job.claim() {
                    state.claims.add(job.slot, claim);
                }
                if state.reader_sleeping && state.unstarted() <= QUEUE_REFILL {
                    self.wants_input.notify_one();
                }
                return Some(job);
            }
            state.sleeping_spawners += 1;
            // A spawner that sleeps was woken up when a job was delayed, so each of them knows the
            // time of the first one. The spawner whose start failed knows when the capacity grows.
            let timeouts = [state.delayed.wait_timeout(), state.capacity_wait()];
            state = match timeouts.into_iter().flatten().min() {
                None => {
                    let woken = self.can_start.wait(state);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
                Some(timeout) => {
                    let woken = self.can_start.wait_timeout(state, timeout);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.sleeping_spawners -= 1;
        }
    }

    /// Puts back a job that could not be started because a resource ran out. It waits until another
    /// job ends, or the capacity grows again. The capacity drops to the number of active jobs, which
    /// is returned. If no other job is active that could free the resource, the caller keeps the job
    /// and its permit.
    pub(crate) fn requeue(&self, job: Job) -> Result<usize, Job> {
        let mut state = self.lock();
        if state.active == 1 && !state.closed {
            return Err(job);
        }
        state.leave(job.slot);
        let capacity = state.reduce_capacity();
        state.retries.push_front(job);
        state.return_excess();
        self.wake_spawners(&state);
        Ok(capacity)
    }

    // ---- for the supervisor

    /// Releases the permit of a job that has ended, and its slot. The slot is `None` if the job was
    /// lost at its start, which ends the run.
    pub(crate) fn release(&self, slot: Option<u32>) {
        let mut state = self.lock();
        match slot {
            Some(slot) => state.leave(slot),
            None => state.end_activity(),
        }
        if state.capacity < state.capacity_max {
            // The missing resource may be available again. The capacity grows by one each time as
            // many jobs have ended as it allows.
            state.released += 1;
            if state.released >= state.capacity {
                state.capacity += 1;
                state.released = 0;
            }
        }
        self.wake_spawners(&state);
    }

    /// Queues a job that has ended for another attempt.
    pub(crate) fn retry(&self, retry: Retry) {
        let mut state = self.lock();
        state.leave(retry.job.slot);
        self.add_retry(&mut state, retry);
        self.wake_spawners(&state);
    }

    fn add_retry(&self, state: &mut State, Retry { job, delay }: Retry) {
        match delay {
            None => state.retries.push_back(job),
            Some(delay) => {
                state.delayed.add(Instant::now() + delay, job);
                self.can_start.notify_all();
            }
        }
    }

    /// Releases the permit of a job that has ended. Whether it gets another attempt is decided
    /// later.
    pub(crate) fn defer(&self, slot: u32) {
        let mut state = self.lock();
        state.deferred += 1;
        drop(state);
        self.release(Some(slot));
    }

    /// Reports the decision about a deferred job.
    pub(crate) fn resolve_deferred(&self, retry: Option<Retry>) {
        let mut state = self.lock();
        state.deferred -= 1;
        if let (Some(retry), false) = (retry, state.closed) {
            self.add_retry(&mut state, retry);
        }
        self.wake_spawners(&state);
    }

    /// Allows one more active job. Returns the new limit.
    pub(crate) fn raise_limit(&self) -> usize {
        let mut state = self.lock();
        if state.capacity_max < state.capacity_limit {
            if state.capacity == state.capacity_max {
                state.capacity += 1;
            }
            state.capacity_max += 1;
            state.add_token();
        }
        self.wake_spawners(&state);
        state.capacity_max
    }

    /// Allows one active job fewer, but at least one. Returns the new limit.
    pub(crate) fn lower_limit(&self) -> usize {
        let mut state = self.lock();
        state.remove_token();
        state.capacity_max = (state.capacity_max - 1).max(1);
        state.capacity = state.capacity.min(state.capacity_max);
        state.return_excess();
        state.capacity_max
    }

    /// Starts no more jobs.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.queued.clear();
        state.retries.clear();
        state.delayed.clear();
        state.return_excess();
        state.claims.clear_waiting();
        state.hold_reason = None;
        self.can_start.notify_all();
        self.wants_input.notify_all();
    }

    /// Whether no job is active, and none will be.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    /// The number of active jobs.
    pub(crate) fn active(&self) -> usize {
        self.lock().active
    }

    fn wake_spawners(&self, state: &State) {
        if state.sleeping_spawners == 0 {
            return;
        }
        match state.worth_waking() {
            _ if state.is_over() => self.can_start.notify_all(),
            0 => {}
            1 => self.can_start.notify_one(),
            _ => self.can_start.notify_all(),
        }
    }
}
