//! Deadlines of children: when to send `SIGTERM` and when to send `SIGKILL`.
//!
//! Only the ring thread uses them. All deadlines together cost the kernel one timer, the timeout of
//! the ring thread's wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::record::leftover_group::{LeftoverGroup, LeftoverGroups};
use crate::record::{DeadlineKey, NewDeadline, Record};

/// How often a group is checked for remaining processes. A group that is not empty costs a
/// descriptor.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The same for a group whose grace has no end.
const ENDLESS_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often, and for how long, processes that were sent `SIGKILL` are checked for their end.
const KILL_CHECK_INTERVAL: Duration = Duration::from_millis(10);
const KILL_CHECK_MAX: Duration = Duration::from_millis(200);
/// The longest wait, so that the kernel never gets a timeout of years.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// A time after which no program runs any more, for a grace that is too long for the clock.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

pub(crate) struct Deadlines {
    by_time: BTreeMap<DeadlineKey, Deadline>,
    last_id: u64,
    groups: LeftoverGroups,
}

enum Deadline {
    /// Sends `SIGTERM`, and `SIGKILL` after this grace. The group is what an earlier `SIGTERM` may
    /// have left over.
    Terminate(Arc<Record>, Duration, Option<LeftoverGroup>),
    /// Sends `SIGKILL`, also to what is left of the group by then.
    Kill(Arc<Record>, Option<LeftoverGroup>),
    /// The leader has ended. Sends `SIGKILL` to the others at this time.
    KillGroup(Arc<Record>, LeftoverGroup, Instant),
    /// All were sent `SIGKILL`. Checks until this time whether they have ended.
    ConfirmKill(Arc<Record>, LeftoverGroup, Instant),
}

impl Deadlines {
    pub(crate) fn new() -> Self {
        Self {
            by_time: BTreeMap::new(),
            last_id: 0,
            groups: LeftoverGroups::new(),
        }
    }

    /// Sets or removes a process's deadline, in place of the one that it has.
    pub(crate) fn set(&mut self, record: Arc<Record>) {
        let Some(NewDeadline { at, grace }) = record.take_new_deadline() else {
            return;
        };
        let group = match self.take(&record) {
            Some((_, Deadline::Terminate(_, _, group) | Deadline::Kill(_, group))) => group,
            Some((_, Deadline::KillGroup(_, group, _) | Deadline::ConfirmKill(_, group, _))) => {
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
            // The process ended while the new deadline was in the mailbox. What is left of its
            // group gets the new grace.
            (false, Some(at), Some(group)) => self.keep_until(&record, group, after(at, grace)),
            // The deadline was removed, or there is nothing left to signal.
            _ => {}
        }
    }

    fn insert(
        &mut self,
        at: Instant,
        record: &Arc<Record>,
        deadline: impl FnOnce(Arc<Record>) -> Deadline,
    ) {
        self.last_id += 1;
        let key = (at, self.last_id);
        record.swap_deadline_key(Some(key));
        self.by_time.insert(key, deadline(Arc::clone(record)));
    }

    /// Removes and returns the deadline of a process.
    fn take(&mut self, record: &Record) -> Option<(DeadlineKey, Deadline)> {
        if self.by_time.is_empty() {
            return None;
        }
        self.by_time.remove_entry(&record.swap_deadline_key(None)?)
    }

    /// Handles the end of a process. What it left of its group gets the remaining grace.
    pub(crate) fn ended(&mut self, record: &Arc<Record>) {
        let (group, until) = match self.take(record) {
            Some(((at, _), Deadline::Kill(_, Some(group)))) => (group, at),
            Some(((at, _), Deadline::Terminate(_, grace, Some(group)))) => {
                (group, after(at, grace))
            }
            Some((_, Deadline::KillGroup(_, group, until))) => (group, until),
            Some((_, Deadline::ConfirmKill(_, group, until))) => {
                return self.confirm_kill(record, group, until);
            }
            _ => return,
        };
        self.keep_until(record, group, until);
    }

    /// Kills what a child has left in its cgroup, if that was asked for.
    pub(crate) fn kill_leftovers(&mut self, record: &Arc<Record>) {
        if let Some(leaf) = record.leftovers_to_kill() {
            let group = LeftoverGroup::of_cgroup(leaf);
            self.confirm_kill(record, group, Instant::now() + KILL_CHECK_MAX);
        }
    }

    /// Keeps a group until its grace is over.
    fn keep_until(&mut self, record: &Arc<Record>, group: LeftoverGroup, until: Instant) {
        // Until the leader's exit has been seen, the leader itself is in the group.
        if record.exit().is_some() && group.is_empty() {
            record.group_ended();
        } else {
            let now = Instant::now();
            let poll_at = match until > now + NEVER / 2 {
                true => now + ENDLESS_POLL_INTERVAL,
                false => now + POLL_INTERVAL,
            };
            self.insert(until.min(poll_at), record, |record| {
                Deadline::KillGroup(record, group, until)
            });
        }
    }

    /// Sends `SIGKILL` to what is left of a group, or repeats it. A process that remains may be one
    /// that this process must not signal.
    fn confirm_kill(&mut self, record: &Arc<Record>, group: LeftoverGroup, until: Instant) {
        record.kill_by_deadline();
        let now = Instant::now();
        match group.kill() {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) && record.exit().is_some() => {
                record.group_ended();
            }
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                record.set_group_kill_error(error);
            }
            // It cannot be known or done for lack of a descriptor, and is tried until there is one.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                self.insert(now + POLL_INTERVAL, record, |record| {
                    Deadline::ConfirmKill(record, group, until)
                });
            }
            // The leader is there, and what its own signal met is known.
            Err(error) if until <= now && error.raw_os_error() != Some(libc::ESRCH) => {
                record.set_group_kill_error(error);
            }
            _ if until <= now => {}
            _ => self.insert(now + KILL_CHECK_INTERVAL, record, |record| {
                Deadline::ConfirmKill(record, group, until)
            }),
        }
    }

    /// How many groups hold a pidfd.
    pub(crate) fn open_pidfds(&self) -> usize {
        self.groups.open_pidfds()
    }

    /// How long until the next deadline.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        let ((at, _), _) = self.by_time.first_key_value()?;
        Some(at.saturating_duration_since(Instant::now()).min(WAIT_MAX))
    }

    /// Sends the signals that are due.
    pub(crate) fn run_due(&mut self) {
        if self.by_time.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(entry) = self.by_time.first_entry() {
            if entry.key().0 > now {
                break;
            }
            match entry.remove() {
                Deadline::Terminate(record, grace, group) => {
                    let (alive, group) = record.terminate_by_deadline(&self.groups, group);
                    let kill_at = after(now, grace);
                    match (alive, group) {
                        (true, group) => {
                            self.insert(kill_at, &record, |record| Deadline::Kill(record, group));
                        }
                        // The process has ended, and the ring thread is about to see that.
                        (false, Some(group)) => self.keep_until(&record, group, kill_at),
                        (false, None) => {}
                    }
                }
                Deadline::Kill(record, Some(group)) => {
                    self.confirm_kill(&record, group, now + KILL_CHECK_MAX);
                }
                Deadline::Kill(record, None) => record.kill_by_deadline(),
                Deadline::KillGroup(record, group, until) if until <= now => {
                    self.confirm_kill(&record, group, now + KILL_CHECK_MAX);
                }
                Deadline::ConfirmKill(record, group, until) => {
                    self.confirm_kill(&record, group, until);
                }
                Deadline::KillGroup(record, group, until) => {
                    self.keep_until(&record, group, until);
                }
            }
        }
    }
}

/// The end of a grace.
fn after(at: Instant, grace: Duration) -> Instant {
    // A time that is near the end of the clock never comes, either.
    at.checked_add(grace.min(NEVER)).unwrap_or(at)
}

impl Drop for Deadlines {
    /// Ends the grace of every group now, because nothing could end it later. A grace without an end
    /// stays one.
    fn drop(&mut self) {
        let never = Instant::now() + NEVER / 2;
        for ((at, _), deadline) in std::mem::take(&mut self.by_time) {
            match deadline {
                Deadline::Terminate(..) => {}
                Deadline::Kill(..) if at > never => {}
                Deadline::KillGroup(_, _, until) if until > never => {}
                Deadline::Kill(record, group) => {
                    record.kill_by_deadline();
                    if let Some(group) = group {
                        let _ = group.kill();
                    }
                }
                Deadline::KillGroup(record, group, _) | Deadline::ConfirmKill(record, group, _) => {
                    record.kill_by_deadline();
                    let _ = group.kill();
                }
            }
        }
    }
}
