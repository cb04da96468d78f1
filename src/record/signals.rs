//! Signals to the process, from the user and from deadlines.
//!
//! Each signal is sent under the lock under which an owned child is reaped, so the child's pid is
//! not reused.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::{DeadlineKey, Extra, NewDeadline, Ownership, Record};
use crate::CgroupReport;
use crate::cgroup::CgroupLeaf;
use crate::error::SignalError;
use crate::record::leftover_group::{LeftoverGroup, LeftoverGroups};
use crate::sys::{self, WaitResult, WaitTarget};

impl Record {
    /// Signals the process, or the group that it leads.
    pub(crate) fn signal(&self, signal: i32, group: bool) -> Result<(), SignalError> {
        let _state = self.lock();
        if self.exit().is_some() || self.reaped_elsewhere() {
            return Err(SignalError::Exited);
        }
        let sent = match group {
            true => sys::kill_group(self.pid, signal).ok_or(SignalError::NoGroup)?,
            false => sys::kill(self.pid, signal),
        };
        sent.map_err(|error| SignalError::from_kill(signal, error))
    }

    /// Whether the child, which is ours to reap, was reaped by something else: automatically
    /// (`SIGCHLD` is ignored), or by a wait for any child. Then its pid may be reused.
    fn reaped_elsewhere(&self) -> bool {
        matches!(
            sys::waitid(WaitTarget::PeekPid(self.pid)),
            Ok(WaitResult::NoChild)
        )
    }

    /// The signal that stopped the child, if it is stopped (and not by a debugger).
    pub(crate) fn stopped(&self) -> Option<i32> {
        let _state = self.lock();
        if self.ownership != Ownership::Owned || self.exit().is_some() {
            return None;
        }
        let look = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let stopped = waitid(WaitId::Pid(self.pid.as_rustix()), look);
        stopped.ok()??.stopping_signal()
    }

    /// Sends a deadline's `SIGTERM` to the group if the child leads one, otherwise to the child
    /// alone.
    ///
    /// `SIGCONT` follows, because a stopped process does not act on `SIGTERM`. Returns whether the
    /// child was alive, and its group.
    pub(crate) fn terminate_by_deadline(
        &self,
        groups: &LeftoverGroups,
        group: Option<LeftoverGroup>,
    ) -> (bool, Option<LeftoverGroup>) {
        let mut state = self.lock();
        if !self.is_alive() {
            return (false, group);
        }
        let cgroup = state.extra.as_ref().and_then(|extra| extra.cgroup.clone());
        let group = group.or_else(|| groups.track(self.pid, cgroup));
        let sent = self.kill_group_or_process(libc::SIGTERM);
        if sent.is_ok() {
            let _ = self.kill_group_or_process(libc::SIGCONT);
        }
        let extra = state.extra();
        extra.by_deadline = true;
        extra.group = group
            .as_ref()
            .map(LeftoverGroup::grace_token)
            .unwrap_or_default();
        extra.note_deadline_error(libc::SIGTERM, sent);
        (true, group)
    }

    /// Sends a deadline's `SIGKILL` to the same processes, also to the group of a leader that has
    /// ended and is not reaped.
    pub(crate) fn kill_by_deadline(&self) {
        let mut state = self.lock();
        if self.exit().is_none() && !self.reaped_elsewhere() {
            let sent = self.kill_group_or_process(libc::SIGKILL);
            state.extra().note_deadline_error(libc::SIGKILL, sent);
        }
    }

    fn cgroup(&self) -> Option<Arc<CgroupLeaf>> {
        if !self.has_cgroup.load(Ordering::Relaxed) {
            return None;
        }
        let state = self.lock();
        state.extra.as_ref().and_then(|extra| extra.cgroup.clone())
    }

    /// What is in the cgroup of a child that has ended, if it has one.
    pub(super) fn cgroup_report(&self) -> Option<Arc<CgroupReport>> {
        Some(Arc::new(self.cgroup()?.report()))
    }

    /// The cgroup of a child that has ended and left processes that are to be killed.
    pub(crate) fn leftovers_to_kill(&self) -> Option<Arc<CgroupLeaf>> {
        if !self.has_cgroup.load(Ordering::Relaxed) {
            return None;
        }
        let state = self.lock();
        let extra = state.extra.as_ref().filter(|extra| extra.kill_leftovers)?;
        // It was taken out if nothing was left.
        self.exit().and(extra.cgroup.clone())
    }

    /// Kills all processes in the cgroup of the child, whether the child has ended or not.
    pub(crate) fn kill_tree(&self) -> Result<(), SignalError> {
        match (self.cgroup(), self.exit()) {
            // While this has the leaf, it does not serve another child.
            (Some(leaf), _) => Ok(leaf.kill()?),
            // Nothing was left in it.
            (None, Some(exit)) if exit.cgroup().is_some() => Ok(()),
            (None, _) => Err(SignalError::NoCgroup),
        }
    }

    /// Signals a child that is not reaped. The caller holds the lock.
    fn kill_group_or_process(&self, signal: i32) -> io::Result<()> {
        sys::kill_group(self.pid, signal).unwrap_or_else(|| sys::kill(self.pid, signal))
    }

    /// Records that what is left of the group could not be killed when its grace was over.
    pub(crate) fn set_group_kill_error(&self, error: io::Error) {
        self.lock()
            .extra()
            .note_deadline_error(libc::SIGKILL, Err(error));
    }

    /// Records that the group is empty, so no process was missed.
    pub(crate) fn group_ended(&self) {
        if let Some(extra) = &mut self.lock().extra {
            extra.deadline_error = None;
        }
    }

    /// Why a deadline's last signal could not be sent.
    pub(crate) fn deadline_error(&self) -> Option<SignalError> {
        let state = self.lock();
        let (signal, errno) = state.extra.as_ref()?.deadline_error?;
        let error = io::Error::from_raw_os_error(errno);
        Some(SignalError::from_kill(signal, error))
    }

    /// Whether the group that a deadline terminates, or whose leader it has ended, still has its
    /// grace.
    pub(crate) fn group_in_grace(&self) -> bool {
        let state = self.lock();
        let extra = state.extra.as_ref();
        extra.is_some_and(|extra| extra.group.strong_count() > 0)
    }

    /// Whether a child of ours has not ended, seen or unseen. The caller holds the lock.
    fn is_alive(&self) -> bool {
        self.exit().is_none()
            && matches!(
                sys::waitid(WaitTarget::PeekPid(self.pid)),
                Ok(WaitResult::Pending)
            )
    }

    /// Sets a deadline, in place of one that the ring thread has not taken yet.
    ///
    /// `notify` sends the command to the ring thread, unless one is already sent, and returns
    /// whether it could. Returns the same.
    pub(crate) fn request_deadline(
        &self,
        deadline: NewDeadline,
        notify: impl FnOnce() -> bool,
    ) -> bool {
        let mut state = self.lock();
        let extra = state.extra();
        let pending = extra.new_deadline.replace(deadline).is_some();
        // Under the lock, under which the ring thread takes the deadline.
        let notified = pending || notify();
        if !notified {
            state.extra().new_deadline = None;
        }
        notified
    }

    pub(crate) fn take_new_deadline(&self) -> Option<NewDeadline> {
        let mut state = self.lock();
        state.extra.as_mut()?.new_deadline.take()
    }

    /// Stores the key of the deadline in the ring thread, and returns the previous key.
    pub(crate) fn swap_deadline_key(&self, key: Option<DeadlineKey>) -> Option<DeadlineKey> {
        let mut state = self.lock();
        match (&mut state.extra, key) {
            (None, None) => None,
            _ => std::mem::replace(&mut state.extra().deadline, key),
        }
    }
}

impl Extra {
    fn note_deadline_error(&mut self, signal: i32, sent: io::Result<()>) {
        let errno = sent.err().and_then(|error| error.raw_os_error());
        self.deadline_error = errno.map(|errno| (signal, errno));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::Pid;
    use crate::record::WatchFor;

    #[test]
    fn a_deadline_replaces_one_that_is_not_taken_yet_without_another_command() {
        let record = Record::new(
            Pid::new(1).expect("a pid"),
            Ownership::Owned,
            WatchFor::Exited,
        );
        let deadline = |seconds| NewDeadline {
            at: Some(Instant::now()),
            grace: Duration::from_secs(seconds),
        };
        let mut notices = 0;
        for seconds in 0..1000 {
            assert!(record.request_deadline(deadline(seconds), || {
                notices += 1;
                true
            }));
        }
        assert_eq!(notices, 1);
        let taken = record.take_new_deadline().expect("it was set");
        assert_eq!(taken.grace, Duration::from_secs(999));
        assert!(record.take_new_deadline().is_none());
        // The next deadline needs a new command, and is dropped if that cannot be sent.
        assert!(!record.request_deadline(deadline(7), || false));
        assert!(record.take_new_deadline().is_none());
        assert!(record.request_deadline(deadline(8), || true));
    }
}
