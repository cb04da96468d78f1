//! Where jobs wait to be started: until there is room for one more to run.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::run::job::Job;

/// Jobs that were read and have not begun. Enough that nobody waits for the reader.
const WAITING_MAX: usize = 1024;
/// The reader sleeps until so few are left.
const WAITING_FEW: usize = WAITING_MAX / 2;

/// Bounded on both sides: jobs that wait, and jobs inside.
pub(crate) struct Gate {
    state: Mutex<State>,
    /// For those who start jobs.
    opened: Condvar,
    /// For the reader.
    wanted: Condvar,
}

struct State {
    waiting: VecDeque<Job>,
    /// For another attempt, or put back; they go first.
    again: VecDeque<Job>,
    /// Running, or being started.
    inside: usize,
    /// How many may be inside: as many as asked for, or fewer where something ran out.
    room: usize,
    /// As many as asked for.
    room_max: usize,
    /// Asking for more comes to no more than this.
    room_limit: usize,
    /// Jobs that have ended, of which it is not known yet whether they are tried again.
    held: usize,
    /// Jobs that left since the room was made smaller, or grew.
    left: usize,
    /// No more will come from the reader.
    complete: bool,
    /// No more are to be started.
    closed: bool,
    starters_asleep: usize,
    reader_asleep: bool,
}

impl Gate {
    pub(crate) fn new(room: usize, room_limit: usize) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                again: VecDeque::new(),
                inside: 0,
                room,
                room_max: room,
                room_limit,
                held: 0,
                left: 0,
                complete: false,
                closed: false,
                starters_asleep: 0,
                reader_asleep: false,
            }),
            opened: Condvar::new(),
            wanted: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- the reader

    /// Brings jobs; waits while there are many. `false`: no more are wanted.
    pub(crate) fn bring(&self, jobs: &mut Vec<Job>) -> bool {
        let mut state = self.lock();
        state.waiting.extend(jobs.drain(..));
        self.wake_starters(&state);
        if state.waiting.len() >= WAITING_MAX {
            while state.waiting.len() > WAITING_FEW && !state.closed {
                state.reader_asleep = true;
                state = self
                    .wanted
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            state.reader_asleep = false;
        }
        !state.closed
    }

    /// No more will come.
    pub(crate) fn complete(&self) {
        let mut state = self.lock();
        state.complete = true;
        // Whoever finds nothing to do now has nothing to wait for.
        self.opened.notify_all();
    }

    // ---- those who start jobs

    /// The next job, when there is one and room for it. `None`: there will be none, and all have ended. Not sooner: the kernel
    /// sends a job that asked for a signal at its parent's death (`PR_SET_PDEATHSIG`) that signal when the *thread* that started
    /// it ends.
    pub(crate) fn enter(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.is_over() {
                return None;
            }
            if !state.closed
                && state.inside < state.room
                && let Some(job) = state.next()
            {
                state.inside += 1;
                if state.reader_asleep && state.waiting.len() <= WAITING_FEW {
                    self.wanted.notify_one();
                }
                return Some(job);
            }
            state.starters_asleep += 1;
            state = self
                .opened
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.starters_asleep -= 1;
        }
    }

    /// A job could not be started because something ran out: it is put back, and waits until one of the others leaves;
    /// there shall be no more inside than there are now, as is returned. If nothing else is inside that could give
    /// anything back, the caller keeps the job and its place.
    pub(crate) fn crowded(&self, job: Job) -> Result<usize, Job> {
        let mut state = self.lock();
        if state.inside == 1 && !state.closed {
            return Err(job);
        }
        state.inside -= 1;
        state.room = state.inside.clamp(1, state.room_max);
        state.left = 0;
        state.again.push_front(job);
        self.wake_starters(&state);
        Ok(state.room)
    }

    // ---- who sees them end

    /// So many have ended.
    pub(crate) fn leave(&self, count: usize) {
        if count == 0 {
            return;
        }
        let mut state = self.lock();
        state.inside -= count;
        if state.room < state.room_max {
            // Whatever ran out may be there again: one more at a time, each time a houseful has left.
            state.left += count;
            if state.left >= state.room {
                state.room += 1;
                state.left = 0;
            }
        }
        self.wake_starters(&state);
    }

    /// One has ended, and is to be tried again.
    pub(crate) fn again(&self, job: Job) {
        let mut state = self.lock();
        state.inside -= 1;
        state.again.push_back(job);
        self.wake_starters(&state);
    }

    /// One has ended, and leaves its place; whether it is tried again is judged later.
    pub(crate) fn hold(&self) {
        let mut state = self.lock();
        state.held += 1;
        drop(state);
        self.leave(1);
    }

    /// It is judged.
    pub(crate) fn judged(&self, again: Option<Job>) {
        let mut state = self.lock();
        state.held -= 1;
        if !state.closed {
            state.again.extend(again);
        }
        self.wake_starters(&state);
    }

    /// One more may be inside. Returns how many may.
    pub(crate) fn widen(&self) -> usize {
        let mut state = self.lock();
        if state.room_max < state.room_limit {
            if state.room == state.room_max {
                state.room += 1;
            }
            state.room_max += 1;
        }
        self.wake_starters(&state);
        state.room_max
    }

    /// One fewer may be inside from now on, but one. Returns how many may.
    pub(crate) fn narrow(&self) -> usize {
        let mut state = self.lock();
        state.room_max = (state.room_max - 1).max(1);
        state.room = state.room.min(state.room_max);
        state.room_max
    }

    /// No more are to be started.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        state.again.clear();
        self.opened.notify_all();
        self.wanted.notify_all();
    }

    /// Whether none is inside, and none will be.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    /// How many are inside.
    pub(crate) fn inside(&self) -> usize {
        self.lock().inside
    }

    fn wake_starters(&self, state: &State) {
        if state.starters_asleep == 0 {
            return;
        }
        let startable =
            (state.waiting.len() + state.again.len()).min(state.room.saturating_sub(state.inside));
        match startable {
            _ if state.is_over() => self.opened.notify_all(),
            0 => {}
            1 => self.opened.notify_one(),
            _ => self.opened.notify_all(),
        }
    }
}

impl State {
    fn next(&mut self) -> Option<Job> {
        self.again.pop_front().or_else(|| self.waiting.pop_front())
    }

    fn is_over(&self) -> bool {
        let none_waits = self.waiting.is_empty() && self.again.is_empty();
        self.inside == 0 && self.held == 0 && (self.closed || self.complete && none_waits)
    }
}
