//! The processes that `exitring wait` waits for, and how each of them ended.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use exitring::{Exits, Outcome, Pid, RecvTimeoutError, Tagged, Unknown, WatchError, Watcher};

/// How long the parent of a process that has ended has to reap it.
const REAP_TIMEOUT: Duration = Duration::from_secs(1);

/// A process that has ended, and what is known about how.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) pid: Pid,
    pub(crate) outcome: Outcome,
    /// Why the outcome is unknown, if a better reason than that of the outcome is known.
    pub(crate) reason: Option<String>,
}

/// The processes that are waited for. Each is watched twice: for its exit, and for its reap, from
/// which on its status is available.
pub(crate) struct Ends {
    exits: Exits,
    watched: Vec<Watched>,
}

struct Watched {
    pid: Pid,
    /// Why the reap cannot be watched, if it cannot.
    reap_error: Option<String>,
    state: State,
}

enum State {
    Running,
    /// It has ended; its parent has until then to reap it.
    Ended(Instant),
    Reported,
}

#[derive(Clone, Copy)]
enum WatchFor {
    Exit = 0,
    Reap = 1,
}

impl Ends {
    /// Watches the processes. Returns those that cannot be watched, with the reasons.
    pub(crate) fn watch(
        watcher: &Watcher,
        exits: Exits,
        pids: BTreeSet<Pid>,
    ) -> (Self, Vec<(Pid, WatchError)>) {
        let mut ends = Self {
            exits,
            watched: Vec::with_capacity(pids.len()),
        };
        let mut refused = Vec::new();
        for pid in pids {
            if let Err(error) = ends.watch_one(watcher, pid) {
                refused.push((pid, error));
            }
        }
        (ends, refused)
    }

    fn watch_one(&mut self, watcher: &Watcher, pid: Pid) -> Result<(), WatchError> {
        let tag = |event: WatchFor| self.watched.len() as u64 * 2 + event as u64;
        // The queue has the capacity for both.
        let add = |watch: &exitring::Watch, event| {
            self.exits
                .add(watch, tag(event))
                .map_err(|_| WatchError::Closed(exitring::Closed::Dropped))
        };
        let watch = watcher.watch(pid)?;
        add(&watch, WatchFor::Exit)?;
        // The same process, although by its pid: the kernel reuses a pid only after it has given
        // out all others, and these two calls are microseconds apart.
        let reap_error = match watcher.watch_reaped(pid) {
            Ok(watch) => {
                add(&watch, WatchFor::Reap)?;
                None
            }
            Err(WatchError::NoSuchProcess { .. }) => {
                Some("it was reaped before its reap could be watched".into())
            }
            Err(error) => Some(error.to_string()),
        };
        self.watched.push(Watched {
            pid,
            reap_error,
            state: State::Running,
        });
        Ok(())
    }

    /// The processes that have not ended.
    pub(crate) fn running(&self) -> impl Iterator<Item = Pid> {
        let runs = |watched: &&Watched| matches!(watched.state, State::Running);
        self.watched.iter().filter(runs).map(|watched| watched.pid)
    }

    /// Whether all processes have been reported.
    pub(crate) fn are_all_reported(&self) -> bool {
        self.watched
            .iter()
            .all(|watched| matches!(watched.state, State::Reported))
    }

    /// Waits for the next end, but not beyond `until`.
    pub(crate) fn next(&mut self, until: Option<Instant>) -> Result<Option<End>, RecvTimeoutError> {
        loop {
            let over = until.is_some_and(|until| until <= Instant::now());
            if let Some(end) = self.take_overdue(over) {
                return Ok(Some(end));
            }
            let deadlines = self
                .watched
                .iter()
                .filter_map(|watched| match watched.state {
                    State::Ended(deadline) => Some(deadline),
                    _ => None,
                });
            let wake = deadlines.chain(until).min();
            let left = wake.map(|wake| wake.saturating_duration_since(Instant::now()));
            let tagged = match left {
                Some(left) => match self.exits.recv_timeout(left) {
                    Err(RecvTimeoutError::Timeout) => None,
                    tagged => tagged?,
                },
                None => self.exits.recv()?,
            };
            match tagged {
                Some(tagged) => {
                    if let Some(end) = self.take(&tagged) {
                        return Ok(Some(end));
                    }
                }
                None if over => return Ok(None),
                // No exit is outstanding, and no deadline.
                None if wake.is_none() => return Ok(None),
                None => {}
            }
        }
    }

    fn take(&mut self, Tagged { tag, exit, .. }: &Tagged) -> Option<End> {
        let watched = self.watched.get_mut((tag / 2) as usize)?;
        if matches!(watched.state, State::Reported) {
            return None;
        }
        let is_reap = tag % 2 == WatchFor::Reap as u64;
        let unknown = matches!(exit.outcome(), Outcome::Unknown(_));
        if unknown && !is_reap && watched.reap_error.is_none() {
            watched.state = State::Ended(Instant::now() + REAP_TIMEOUT);
            return None;
        }
        watched.state = State::Reported;
        let reason = watched.reap_error.take().filter(|_| unknown);
        Some(End {
            pid: exit.pid(),
            outcome: exit.outcome(),
            reason,
        })
    }

    /// Takes a process whose parent has not reaped it in time; with `all`, any that has ended.
    fn take_overdue(&mut self, all: bool) -> Option<End> {
        let now = Instant::now();
        let late = |watched: &&mut Watched| matches!(watched.state, State::Ended(deadline) if all || deadline <= now);
        let watched = self.watched.iter_mut().find(late)?;
        watched.state = State::Reported;
        Some(End {
            pid: watched.pid,
            outcome: Outcome::Unknown(Unknown::NotAChild),
            reason: Some("its parent has not reaped it (it is a zombie), and the kernel reports its status to other processes only after the reap".into()),
        })
    }
}
