//! Signals to the process: the user's, and a deadline's. Each is sent under the lock under which an owned child is reaped, so its
//! pid is not another's.

use super::{NewDeadline, Record};
use crate::deadlines::DeadlineKey;
use crate::error::SignalError;
use crate::remnant::{Remnant, Remnants};
use crate::sys::{self, Ask, Waited};

impl Record {
    /// Signals the process, or the group that it leads.
    pub(crate) fn signal(&self, signal: i32, group: bool) -> Result<(), SignalError> {
        let _state = self.lock();
        if self.exit.get().is_some() || self.is_taken() {
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
    fn is_taken(&self) -> bool {
        matches!(sys::waitid(Ask::LookAtChild(self.pid)), Ok(Waited::NoChild))
    }

    /// A deadline's `SIGTERM`: to the group if it leads one, else to the process alone. Tells whether it was alive, and what holds
    /// on to the group. Without a hold, what is left of the group is killed when this is reaped.
    pub(crate) fn terminate_by_deadline(
        &self,
        remnants: &Remnants,
        held: Option<Remnant>,
    ) -> (bool, Option<Remnant>) {
        let mut state = self.lock();
        if !self.is_alive() {
            return (false, held);
        }
        let held = held.or_else(|| remnants.hold(self.pid));
        let extra = state.extra();
        extra.by_deadline = true;
        extra.kill_the_rest = held.is_none();
        // A failure (it changed its user) is for the next, stronger signal to mend, or for nobody.
        let _ = sys::kill_group(self.pid, libc::SIGTERM)
            .unwrap_or_else(|| sys::kill(self.pid, libc::SIGTERM));
        (true, held)
    }

    /// A deadline's `SIGKILL`, likewise.
    pub(crate) fn kill_by_deadline(&self) {
        let _state = self.lock();
        if self.is_alive() {
            let _ = sys::kill_group(self.pid, libc::SIGKILL)
                .unwrap_or_else(|| sys::kill(self.pid, libc::SIGKILL));
        }
    }

    /// Another deadline, or none, has taken the place of the one that was in its grace.
    pub(crate) fn spare_the_rest(&self) {
        let mut state = self.lock();
        if let Some(extra) = &mut state.extra {
            extra.kill_the_rest = false;
        }
    }

    /// Under the lock, of a child that is ours: not ended, seen or not.
    fn is_alive(&self) -> bool {
        self.exit.get().is_none()
            && matches!(sys::waitid(Ask::LookAtChild(self.pid)), Ok(Waited::NotYet))
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::Pid;
    use crate::record::{Kin, Moment};

    #[test]
    fn deadlines_set_while_one_is_on_its_way_take_its_place_and_cost_nothing() {
        let record = Record::new(Pid::new(1).expect("a pid"), Kin::Owned, Moment::Exited);
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
