//! Signals to the process: the user's, and a deadline's. Each is sent under the lock under which an owned child is reaped, so its
//! pid is not another's.

use std::io;

use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::{Extra, NewDeadline, Ownership, Record};
use crate::error::SignalError;
use crate::ring_thread::deadlines::DeadlineKey;
use crate::ring_thread::leftover_group::{LeftoverGroup, LeftoverGroups};
use crate::sys::{self, WaitResult, WaitTarget};

impl Record {
    /// Signals the process, or the group that it leads.
    pub(crate) fn signal(&self, signal: i32, group: bool) -> Result<(), SignalError> {
        let _state = self.lock();
        if self.exit.get().is_some() || self.reaped_elsewhere() {
            return Err(SignalError::Exited);
        }
        let sent = match group {
            true => sys::kill_group(self.pid, signal).ok_or(SignalError::NoGroup)?,
            false => sys::kill(self.pid, signal),
        };
        sent.map_err(|error| SignalError::from_kill(signal, error))
    }

    /// Whether the child, which is ours to reap, was reaped all the same: by itself (`SIGCHLD` is ignored)
    /// or by a wait for any child. Then its pid may be another's.
    fn reaped_elsewhere(&self) -> bool {
        matches!(
            sys::waitid(WaitTarget::PeekPid(self.pid)),
            Ok(WaitResult::NoChild)
        )
    }

    /// The signal that has stopped the child, if it is stopped (and no debugger's).
    pub(crate) fn stopped(&self) -> Option<i32> {
        let _state = self.lock();
        if self.ownership != Ownership::Owned || self.exit.get().is_some() {
            return None;
        }
        let look = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let stopped = waitid(WaitId::Pid(self.pid.as_rustix()), look);
        stopped.ok()??.stopping_signal()
    }

    /// A deadline's `SIGTERM`: to the group if it leads one, else to the process alone; and `SIGCONT`, without which it would
    /// not reach what is stopped. Tells whether it was alive, and what holds on to the group.
    pub(crate) fn terminate_by_deadline(
        &self,
        groups: &LeftoverGroups,
        held: Option<LeftoverGroup>,
    ) -> (bool, Option<LeftoverGroup>) {
        let mut state = self.lock();
        if !self.is_alive() {
            return (false, held);
        }
        let held = held.or_else(|| groups.hold(self.pid));
        let sent = self.kill_group_or_process(libc::SIGTERM);
        if sent.is_ok() {
            let _ = self.kill_group_or_process(libc::SIGCONT);
        }
        let extra = state.extra();
        extra.by_deadline = true;
        extra.group = held.as_ref().map(LeftoverGroup::watch).unwrap_or_default();
        extra.note_deadline_error(libc::SIGTERM, sent);
        (true, held)
    }

    /// A deadline's `SIGKILL`, likewise; also of what a leader that has ended and is not reaped leaves of its group.
    pub(crate) fn kill_by_deadline(&self) {
        let mut state = self.lock();
        if self.exit.get().is_none() && !self.reaped_elsewhere() {
            let sent = self.kill_group_or_process(libc::SIGKILL);
            state.extra().note_deadline_error(libc::SIGKILL, sent);
        }
    }

    /// Under the lock, of a child that is not reaped.
    fn kill_group_or_process(&self, signal: i32) -> io::Result<()> {
        sys::kill_group(self.pid, signal).unwrap_or_else(|| sys::kill(self.pid, signal))
    }

    /// What is left of the group could not be killed when its grace was over.
    pub(crate) fn set_group_kill_error(&self, error: io::Error) {
        self.lock()
            .extra()
            .note_deadline_error(libc::SIGKILL, Err(error));
    }

    /// Nobody is left of the group, so nobody was left out.
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

    /// Whether the group that a deadline ends, or has ended the leader of, has its grace still.
    pub(crate) fn group_in_grace(&self) -> bool {
        let state = self.lock();
        let extra = state.extra.as_ref();
        extra.is_some_and(|extra| extra.group.strong_count() > 0)
    }

    /// Under the lock, of a child that is ours: not ended, seen or not.
    fn is_alive(&self) -> bool {
        self.exit.get().is_none()
            && matches!(
                sys::waitid(WaitTarget::PeekPid(self.pid)),
                Ok(WaitResult::Pending)
            )
    }

    /// Sets a deadline in place of one that the ring thread has not taken yet. `notify` has it taken, if that is not on
    /// its way already, and gives back whether it could.
    pub(crate) fn ask_deadline(
        &self,
        deadline: NewDeadline,
        notify: impl FnOnce() -> bool,
    ) -> bool {
        let mut state = self.lock();
        let extra = state.extra();
        let on_its_way = extra.new_deadline.replace(deadline).is_some();
        // Under the lock: the ring thread takes the deadline under it, too.
        let notified = on_its_way || notify();
        if !notified {
            state.extra().new_deadline = None;
        }
        notified
    }

    pub(crate) fn take_new_deadline(&self) -> Option<NewDeadline> {
        let mut state = self.lock();
        state.extra.as_mut()?.new_deadline.take()
    }

    /// Notes where the ring thread has the deadline, and hands out where it had one before.
    pub(crate) fn set_deadline(&self, key: Option<DeadlineKey>) -> Option<DeadlineKey> {
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
    fn deadlines_set_while_one_is_on_its_way_take_its_place_and_cost_nothing() {
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
            assert!(record.ask_deadline(deadline(seconds), || {
                notices += 1;
                true
            }));
        }
        assert_eq!(notices, 1);
        let taken = record.take_new_deadline().expect("it was set");
        assert_eq!(taken.grace, Duration::from_secs(999));
        assert!(record.take_new_deadline().is_none());
        // The next is a new one, and is not kept if it cannot be taken.
        assert!(!record.ask_deadline(deadline(7), || false));
        assert!(record.take_new_deadline().is_none());
        assert!(record.ask_deadline(deadline(8), || true));
    }
}
