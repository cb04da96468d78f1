//! What is known of each process that is waited for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use exitring::{Exits, Outcome, Pid, RecvTimeoutError, Tagged, Unknown, WatchError, Watcher};

/// So long its parent may take to reap a process that has ended.
const REAP_PATIENCE: Duration = Duration::from_secs(1);

/// A process that has ended, and all that can be told of how.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) pid: Pid,
    pub(crate) outcome: Outcome,
    /// In place of the outcome's own reason, if it is unknown.
    pub(crate) reason: Option<String>,
}

/// The processes that are waited for. Each is watched twice: for its end, and for its being reaped, when
/// its status can be told.
pub(crate) struct Ends {
    exits: Exits,
    watched: Vec<Watched>,
}

struct Watched {
    pid: Pid,
    /// Why its being reaped is not told, if it is not.
    no_reap: Option<String>,
    state: State,
}

enum State {
    Runs,
    /// Its parent has until then to reap it.
    Ended(Instant),
    Told,
}

#[derive(Clone, Copy)]
enum Moment {
    End = 0,
    Reap = 1,
}

impl Ends {
    /// Begins. What cannot be watched is given back with the reason.
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
        let tag = |moment: Moment| self.watched.len() as u64 * 2 + moment as u64;
        // There is room for both.
        let add = |watch: &exitring::Watch, moment| {
            self.exits
                .add(watch, tag(moment))
                .map_err(|_| WatchError::Closed(exitring::Closed::Dropped))
        };
        let watch = watcher.watch(pid)?;
        add(&watch, Moment::End)?;
        // The same process, though by its number: that is given to another only when all others have had their turn
        // since, and these two calls are microseconds apart.
        let no_reap = match watcher.watch_reaped(pid) {
            Ok(watch) => {
                add(&watch, Moment::Reap)?;
                None
            }
            Err(WatchError::NoSuchProcess { .. }) => {
                Some("it was reaped before it could be asked about".into())
            }
            Err(error) => Some(error.to_string()),
        };
        self.watched.push(Watched {
            pid,
            no_reap,
            state: State::Runs,
        });
        Ok(())
    }

    /// The processes that have not ended.
    pub(crate) fn running(&self) -> impl Iterator<Item = Pid> {
        let runs = |watched: &&Watched| matches!(watched.state, State::Runs);
        self.watched.iter().filter(runs).map(|watched| watched.pid)
    }

    /// Whether all have been told.
    pub(crate) fn are_over(&self) -> bool {
        self.watched
            .iter()
            .all(|watched| matches!(watched.state, State::Told))
    }

    /// The next end, waiting for it, but not beyond `until`.
    pub(crate) fn next(&mut self, until: Option<Instant>) -> Result<Option<End>, RecvTimeoutError> {
        loop {
            let over = until.is_some_and(|until| until <= Instant::now());
            if let Some(end) = self.give_up(over) {
                return Ok(Some(end));
            }
            let patience = self
                .watched
                .iter()
                .filter_map(|watched| match watched.state {
                    State::Ended(patience) => Some(patience),
                    _ => None,
                });
            let wake = patience.chain(until).min();
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
                // Nothing comes, and nothing is waited for.
                None if wake.is_none() => return Ok(None),
                None => {}
            }
        }
    }

    fn take(&mut self, Tagged { tag, exit, .. }: &Tagged) -> Option<End> {
        let watched = self.watched.get_mut((tag / 2) as usize)?;
        if matches!(watched.state, State::Told) {
            return None;
        }
        let is_reap = tag % 2 == Moment::Reap as u64;
        let unknown = matches!(exit.outcome(), Outcome::Unknown(_));
        if unknown && !is_reap && watched.no_reap.is_none() {
            watched.state = State::Ended(Instant::now() + REAP_PATIENCE);
            return None;
        }
        watched.state = State::Told;
        let reason = watched.no_reap.take().filter(|_| unknown);
        Some(End {
            pid: exit.pid(),
            outcome: exit.outcome(),
            reason,
        })
    }

    /// One whose parent has had time enough; `all`: there is no more time for any.
    fn give_up(&mut self, all: bool) -> Option<End> {
        let now = Instant::now();
        let late = |watched: &&mut Watched| matches!(watched.state, State::Ended(patience) if all || patience <= now);
        let watched = self.watched.iter_mut().find(late)?;
        watched.state = State::Told;
        Some(End {
            pid: watched.pid,
            outcome: Outcome::Unknown(Unknown::NotAChild),
            reason: Some("its parent has not reaped it (it is a zombie), and only then its status is told to others".into()),
        })
    }
}
