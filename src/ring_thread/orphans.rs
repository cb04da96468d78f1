//! Orphans: descendants of owned children whose parents have ended, and that this process has
//! become the parent of (`PR_SET_CHILD_SUBREAPER`).
//!
//! The kernel does not report that a process has become an orphan, and does not tell orphans from
//! children that this process started itself. So orphans are found by the process groups that owned
//! children lead: `waitid(P_PGID)` returns a child of this process in such a group that has ended.
//! The groups are checked when their leader has ended, and at intervals.
//!
//! A child of the watcher may be in such a group too, and must not be reaped here. The ring thread
//! knows those that were registered. Those whose registration is on its way are counted in
//! `Shared::starting` from before they exist until their command is in the mailbox. So a child that
//! was seen to have ended, while afterwards no start is under way and the mailbox is empty, is known
//! here or is not the watcher's.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::record::{Ownership, Record};
use crate::shared::Shared;
use crate::sys::{self, GroupResult, WaitResult, WaitTarget};
use crate::types::exit::Exit;
use crate::types::pid::Pid;

/// How often groups without their leader are checked.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often the groups are checked while all leaders live.
const LEADERS_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Orphans {
    /// Owned children that were registered, and not reaped.
    owned: HashSet<Pid>,
    /// The groups that owned children lead, and whether the leader has ended.
    groups: BTreeMap<Pid, bool>,
    check_at: Option<Instant>,
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
            self.groups.insert(pid, false);
            self.plan(LEADERS_INTERVAL);
        }
    }

    /// A process has ended, and was reaped if it is owned.
    pub(super) fn ended(&mut self, record: &Record) {
        if !self.owned.remove(&record.pid()) {
            return;
        }
        if let Some(ended) = self.groups.get_mut(&record.pid()) {
            *ended = true;
            self.plan(Duration::ZERO);
        }
    }

    fn plan(&mut self, after: Duration) {
        let at = Instant::now() + after;
        self.check_at = Some(self.check_at.map_or(at, |other| other.min(at)));
    }

    /// How long until the groups are to be checked.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        Some(self.check_at?.saturating_duration_since(Instant::now()))
    }

    /// Reaps the orphans that have ended, if it is time.
    pub(super) fn run_due(&mut self, shared: &Shared) {
        if self.check_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        let owned = &self.owned;
        self.groups
            .retain(|leader, ended| reap_group(shared, owned, *leader) || !*ended);
        self.check_at = None;
        if self.groups.values().any(|ended| *ended) {
            self.plan(INTERVAL);
        } else if !self.groups.is_empty() {
            self.plan(LEADERS_INTERVAL);
        }
    }
}

/// Reaps the orphans of a group that have ended. Returns whether the group has processes left.
fn reap_group(shared: &Shared, owned: &HashSet<Pid>, leader: Pid) -> bool {
    loop {
        let pid = match sys::peek_group(leader) {
            GroupResult::Ended(pid) => pid,
            GroupResult::Pending => return true,
            // Others may still have living parents in the group.
            GroupResult::NoChild => return sys::group_exists(leader),
        };
        if owned.contains(&pid) {
            // The event of its own watch is about to come.
            return true;
        }
        if pid == leader {
            // The number was reused, so the group was empty.
            return false;
        }
        if shared.starting.load(Ordering::SeqCst) > 0 || !shared.mailbox.is_empty() {
            return true;
        }
        // An entry is reserved before the reap, so no exit is lost.
        let sink = match shared.orphan_queue.reserve(leader) {
            Ok(sink) => sink,
            Err(_full) => return true,
        };
        match sys::waitid(WaitTarget::ReapPid(pid)) {
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
                return true;
            }
        }
    }
}
