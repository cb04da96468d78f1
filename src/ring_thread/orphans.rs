//! Orphans: descendants of owned children whose parents have ended, and that this process has
//! become the parent of (`PR_SET_CHILD_SUBREAPER`).
//!
//! The kernel does not report that a process has become an orphan, and does not tell orphans from
//! children that this process started itself. So orphans are found by the process groups that owned
//! children lead: `waitid(P_PGID)` returns a child of this process in such a group that has ended.
//! A group is checked when its leader has ended, and at intervals.
//!
//! A child of the watcher may be in such a group too, and must not be reaped here. The ring thread
//! knows those whose registration it has carried out. The start of any other began before the child
//! was seen to have ended (`Starts::barrier`). Once all these starts are over, their registrations
//! are in the mailbox, and the ring thread carries them out in its next turn. If the child is still
//! unknown then, it is not the watcher's. Later starts cannot be its own, because it keeps its pid. (An
//! adoption can: a child that is to be adopted must not be in such a group before.)
//!
//! A group may have left thousands of orphans. Once one of them was reaped, the next are reaped at
//! once if no start is under way and the mailbox is empty.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use crate::record::{Ownership, Record};
use crate::shared::Shared;
use crate::spawn::starts::Barrier;
use crate::sys::{self, GroupResult, WaitResult, WaitTarget};
use crate::types::exit::Exit;
use crate::types::pid::Pid;

/// How long after one check of a group without its leader the next one comes; twice as long each
/// time.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(1);
/// The least time between two checks of any groups whose leaders live. A check looks at every child
/// of this process.
const LEADER_CHECK_PAUSE: Duration = Duration::from_millis(10);
/// How long after a child was seen it is checked again whether it is an orphan.
const BARRIER_PAUSE: Duration = Duration::from_millis(2);
/// How many groups are checked in one turn.
const CHECKS_PER_TURN: usize = 32;
/// After this time the other orphans of a group are left to the next check.
const CHECK_MAX: Duration = Duration::from_millis(1);

#[derive(Default)]
pub(crate) struct Orphans {
    /// Owned children that were registered, and not reaped.
    owned: HashSet<Pid>,
    /// The groups that owned children lead, by the leader.
    groups: BTreeMap<Pid, Group>,
    /// When each group is to be checked.
    due: BTreeSet<(Instant, Pid)>,
}

struct Group {
    /// Whether the leader has ended.
    ended: bool,
    due_at: Instant,
    interval: Duration,
    /// A child that has ended and may be an orphan.
    candidate: Option<Candidate>,
}

struct Candidate {
    pid: Pid,
    barrier: Barrier,
    /// Whether the starts before the barrier were over in an earlier turn.
    passed: bool,
}

/// What a check of a group has found.
enum Found {
    /// No process that is or may become a child of this process.
    Nothing,
    Members,
    /// A child that is to be checked soon: it is not known yet whether it is an orphan, or it is one
    /// of many.
    Candidate,
}

impl Orphans {
    /// A process was registered.
    pub(super) fn registered(&mut self, record: &Record) {
        let pid = record.pid();
        if record.ownership() != Ownership::Owned || record.exit().is_some() {
            return;
        }
        self.owned.insert(pid);
        if sys::leads_group(pid) {
            let due_at = Instant::now() + self.leader_interval();
            let group = Group {
                ended: false,
                due_at,
                interval: INTERVAL_MIN,
                candidate: None,
            };
            if let Some(before) = self.groups.insert(pid, group) {
                self.due.remove(&(before.due_at, pid));
            }
            self.due.insert((due_at, pid));
        }
    }

    /// A process has ended, and was reaped if it is owned.
    pub(super) fn ended(&mut self, record: &Record) {
        let pid = record.pid();
        if record.ownership() != Ownership::Owned || !self.owned.remove(&pid) {
            return;
        }
        if let Some(group) = self.groups.get_mut(&pid) {
            group.ended = true;
            self.schedule(pid, Duration::ZERO);
        }
    }

    /// Longer with more groups, so that the checks take a small part of the time.
    fn leader_interval(&self) -> Duration {
        let groups = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        INTERVAL_MAX.max(LEADER_CHECK_PAUSE.saturating_mul(groups))
    }

    fn schedule(&mut self, leader: Pid, after: Duration) {
        if let Some(group) = self.groups.get_mut(&leader) {
            self.due.remove(&(group.due_at, leader));
            group.due_at = Instant::now() + after;
            self.due.insert((group.due_at, leader));
        }
    }

    /// How long until a group is to be checked.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        let (at, _) = self.due.first()?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    /// Checks the groups that are due, and reaps orphans that have ended. To be called when all
    /// commands that were taken are carried out.
    pub(super) fn run_due(&mut self, shared: &Shared) {
        if self.due.is_empty() {
            return;
        }
        let now = Instant::now();
        for _ in 0..CHECKS_PER_TURN {
            let Some(&(at, leader)) = self.due.first() else {
                return;
            };
            if at > now {
                return;
            }
            let found = match self.groups.get_mut(&leader) {
                Some(group) => check(shared, &self.owned, leader, group),
                None => Found::Nothing,
            };
            let next = match (found, self.groups.get_mut(&leader)) {
                (Found::Candidate, _) => BARRIER_PAUSE,
                (_, Some(group)) if !group.ended => self.leader_interval(),
                (Found::Members, Some(group)) => {
                    let interval = group.interval;
                    group.interval = (2 * interval).min(INTERVAL_MAX);
                    interval
                }
                _ => {
                    self.groups.remove(&leader);
                    self.due.remove(&(at, leader));
                    continue;
                }
            };
            self.schedule(leader, next);
        }
    }
}

/// Reaps the orphans of a group that have ended.
fn check(shared: &Shared, owned: &HashSet<Pid>, leader: Pid, group: &mut Group) -> Found {
    let until = Instant::now() + CHECK_MAX;
    let mut reaped = false;
    loop {
        let pid = match sys::peek_group(leader) {
            GroupResult::Ended(pid) => pid,
            GroupResult::Pending => return Found::Members,
            // Others may still have living parents in the group.
            GroupResult::NoChild if sys::group_exists(leader) => return Found::Members,
            GroupResult::NoChild => return Found::Nothing,
        };
        if owned.contains(&pid) {
            // The event of its own watch is about to come.
            group.candidate = None;
            return Found::Members;
        }
        if pid == leader {
            // The number was reused, so the group was empty.
            return Found::Nothing;
        }
        // The mailbox last: a start that is over has put the registration there before.
        let is_known = || reaped && shared.starts.none_is_under_way() && shared.mailbox.is_empty();
        match &mut group.candidate {
            Some(candidate) if candidate.pid == pid && candidate.passed => {}
            Some(candidate) if candidate.pid == pid => {
                candidate.passed = shared.starts.are_over(candidate.barrier);
                return Found::Candidate;
            }
            _ if is_known() => {}
            other => {
                *other = Some(Candidate {
                    pid,
                    barrier: shared.starts.barrier(),
                    passed: false,
                });
                return Found::Candidate;
            }
        }
        // An entry is reserved before the reap, so no exit is lost.
        let sink = match shared.orphan_queue.reserve(leader) {
            Ok(sink) => sink,
            Err(_full) => return Found::Members,
        };
        group.candidate = None;
        match sys::waitid_with(WaitTarget::ReapPid(pid), shared.settings.usage) {
            Ok(WaitResult::Ended(outcome, usage)) => {
                shared.counters.orphans.add(1);
                let exit = Exit::of_orphan(pid, outcome, usage, Instant::now());
                if let Some(sink) = sink {
                    sink.deliver(&exit);
                }
            }
            Ok(WaitResult::Pending | WaitResult::NoChild) | Err(_) => {
                if let Some(sink) = sink {
                    sink.release();
                }
                return Found::Members;
            }
        }
        reaped = true;
        if Instant::now() >= until {
            return Found::Candidate;
        }
    }
}
