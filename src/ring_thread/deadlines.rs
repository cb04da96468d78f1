//! When children are to be told to end, and when they are made to.
//!
//! The ring thread's alone. All deadlines together cost the kernel one timer: the time-out of
//! the ring thread's wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::record::{NewDeadline, Record};
use crate::ring_thread::leftover_group::{LeftoverGroup, LeftoverGroups};

/// The time, and a number that makes it unique.
pub(crate) type DeadlineKey = (Instant, u64);

/// How often it is looked whether anybody is left of a group, which costs a descriptor as long as there is.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How often it is looked whether those who were sent `SIGKILL` have ended, and for how long.
const POLL_INTERVAL_KILLED: Duration = Duration::from_millis(10);
const KILLED_MAX: Duration = Duration::from_millis(200);
/// No wait is longer: what the kernel makes of a time-out of years is not found out.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) struct Deadlines {
    at: BTreeMap<DeadlineKey, Deadline>,
    last: u64,
    groups: LeftoverGroups,
}

enum Deadline {
    /// `SIGTERM`, and `SIGKILL` after so long; and what an earlier `SIGTERM` may leave.
    Terminate(Arc<Record>, Duration, Option<LeftoverGroup>),
    /// `SIGKILL`, also to what is left by then.
    Kill(Arc<Record>, Option<LeftoverGroup>),
    /// The leader has ended. `SIGKILL` to the others at this time.
    KillRemnant(Arc<Record>, LeftoverGroup, Instant),
    /// All were sent `SIGKILL`. Until this time it is looked whether they have ended.
    Killed(Arc<Record>, LeftoverGroup, Instant),
}

impl Deadlines {
    pub(crate) fn new() -> Self {
        Self {
            at: BTreeMap::new(),
            last: 0,
            groups: LeftoverGroups::new(),
        }
    }

    /// Sets a process's new deadline, or none, instead of one that it has.
    pub(crate) fn set(&mut self, record: Arc<Record>) {
        let Some(NewDeadline { at, grace }) = record.take_new_deadline() else {
            return;
        };
        let group = match self.take(&record) {
            Some((_, Deadline::Terminate(_, _, group) | Deadline::Kill(_, group))) => group,
            Some((_, Deadline::KillRemnant(_, group, _) | Deadline::Killed(_, group, _))) => {
                Some(group)
            }
            None => None,
        };
        match (record.exit().is_none(), at, group) {
            (true, Some(at), group) => {
                self.insert(at, &record, |record| {
                    Deadline::Terminate(record, grace, group)
                });
            }
            // It ended while this was on its way: what is left of its group has the grace that was meant.
            (false, Some(at), Some(group)) => {
                self.keep_until(&record, group, at.checked_add(grace))
            }
            // There is none any more.
            _ => {}
        }
    }

    fn insert(
        &mut self,
        at: Instant,
        record: &Arc<Record>,
        deadline: impl FnOnce(Arc<Record>) -> Deadline,
    ) {
        self.last += 1;
        let key = (at, self.last);
        record.set_deadline(Some(key));
        self.at.insert(key, deadline(Arc::clone(record)));
    }

    /// Takes out the deadline of a process.
    fn take(&mut self, record: &Record) -> Option<(DeadlineKey, Deadline)> {
        if self.at.is_empty() {
            return None;
        }
        self.at.remove_entry(&record.set_deadline(None)?)
    }

    /// The process has ended. What it left of its group has the rest of the grace.
    pub(crate) fn ended(&mut self, record: &Arc<Record>) {
        let (group, until) = match self.take(record) {
            Some(((at, _), Deadline::Kill(_, Some(group)))) => (group, Some(at)),
            Some(((at, _), Deadline::Terminate(_, grace, Some(group)))) => {
                (group, at.checked_add(grace))
            }
            Some((_, Deadline::KillRemnant(_, group, until))) => (group, Some(until)),
            Some((_, Deadline::Killed(_, group, until))) => {
                return self.confirm_killed(record, group, until);
            }
            _ => return,
        };
        self.keep_until(record, group, until);
    }

    /// `until`: a time past the end of the clock never comes.
    fn keep_until(&mut self, record: &Arc<Record>, group: LeftoverGroup, until: Option<Instant>) {
        // Before the leader's exit is seen, it is in the group itself.
        if record.exit().is_some() && group.is_empty() {
            record.group_ended();
        } else if let Some(until) = until {
            let look = Instant::now() + POLL_INTERVAL;
            self.insert(until.min(look), record, |record| {
                Deadline::KillRemnant(record, group, until)
            });
        }
    }

    /// Kills what is left of a group, again if it was before: who is left then may not be signalled.
    fn confirm_killed(&mut self, record: &Arc<Record>, group: LeftoverGroup, until: Instant) {
        record.kill_by_deadline();
        let now = Instant::now();
        match group.kill() {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) && record.exit().is_some() => {
                record.group_ended();
            }
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                record.set_group_kill_error(error);
            }
            _ if until <= now => {}
            _ => self.insert(now + POLL_INTERVAL_KILLED, record, |record| {
                Deadline::Killed(record, group, until)
            }),
        }
    }

    /// Descriptors held.
    pub(crate) fn held(&self) -> usize {
        self.groups.held()
    }

    /// How long until there is something to do.
    pub(crate) fn next(&self) -> Option<Duration> {
        let ((at, _), _) = self.at.first_key_value()?;
        Some(at.saturating_duration_since(Instant::now()).min(WAIT_MAX))
    }

    /// Sends the signals that are due.
    pub(crate) fn run_due(&mut self) {
        if self.at.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(entry) = self.at.first_entry()
            && entry.key().0 <= now
        {
            match entry.remove() {
                Deadline::Terminate(record, grace, group) => {
                    let (lives, group) = record.terminate_by_deadline(&self.groups, group);
                    let kill_at = now.checked_add(grace);
                    match (lives, kill_at, group) {
                        (true, Some(at), group) => {
                            self.insert(at, &record, |record| Deadline::Kill(record, group));
                        }
                        // Its exit is about to be seen.
                        (false, at, Some(group)) => self.keep_until(&record, group, at),
                        // A time past the end of the clock never comes.
                        _ => {}
                    }
                }
                Deadline::Kill(record, Some(group)) => {
                    self.confirm_killed(&record, group, now + KILLED_MAX);
                }
                Deadline::Kill(record, None) => record.kill_by_deadline(),
                Deadline::KillRemnant(record, group, until) if until <= now => {
                    self.confirm_killed(&record, group, now + KILLED_MAX);
                }
                Deadline::Killed(record, group, until) => {
                    self.confirm_killed(&record, group, until);
                }
                Deadline::KillRemnant(record, group, until) => {
                    self.keep_until(&record, group, Some(until));
                }
            }
        }
    }
}

impl Drop for Deadlines {
    /// Nobody will be there when the grace is over, so for those in it, it is over now.
    fn drop(&mut self) {
        for deadline in std::mem::take(&mut self.at).into_values() {
            match deadline {
                Deadline::Terminate(..) => {}
                Deadline::Kill(record, group) => {
                    record.kill_by_deadline();
                    if let Some(group) = group {
                        let _ = group.kill();
                    }
                }
                Deadline::KillRemnant(record, group, _) | Deadline::Killed(record, group, _) => {
                    record.kill_by_deadline();
                    let _ = group.kill();
                }
            }
        }
    }
}
