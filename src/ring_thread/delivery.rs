//! Delivery: reads the status of each ended process, and stores the exit in its record.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use crate::backend::{Event, PID_REUSE_MIN, StatusSource};
use crate::record::Record;
use crate::record::delivery_guard::{DeliveryGuard, Reaped};
use crate::ring_thread::event_loop::RingThread;
use crate::ring_thread::status_query::{self, QueryResult};
use crate::sync::shrink::ShrinkIfSparse;
use crate::sys::{self, WaitTarget};
use crate::types::exit::Outcome;

/// How many exits in one wake-up begin a burst. In a burst it pays to wait for a batch, because
/// each wake-up takes a processor from the processes that are about to exit.
const BURST_MIN: usize = 8;
/// How many exits in one wake-up continue a burst: what the short wait of a batch brings when only
/// two or three processors end processes.
const BURST_CONTINUES_MIN: usize = 3;

impl RingThread {
    /// Delivers the events of the last wait.
    pub(super) fn deliver(&mut self) -> io::Result<()> {
        let mut ended = 0;
        let mut events = std::mem::take(&mut self.events);
        if let ([Event::Ended(guard, _)], true, false) =
            (&events[..], self.after_pause, self.shared.inline)
        {
            if guard.record().has_callbacks() {
                self.shared.queue.announce();
            }
        }
        let seen_at = self.waited_at;
        for event in events.drain(..) {
            match event {
                Event::Disarmed => self.shared.counters.watched.sub(1),
                Event::Ended(guard, source) => {
                    ended += 1;
                    self.deliver_one(guard, source, seen_at)?;
                }
            }
        }
        events.shrink_if_sparse();
        self.events = events;
        let burst_min = match self.burst {
            true => BURST_CONTINUES_MIN,
            false => BURST_MIN,
        };
        self.burst = ended >= burst_min;
        Ok(())
    }

    fn deliver_one(
        &mut self,
        guard: DeliveryGuard,
        source: StatusSource,
        seen_at: Instant,
    ) -> io::Result<()> {
        if let StatusSource::Owned {
            pidfd,
            inode,
            maybe_reused,
        } = source
        {
            let inode = inode.filter(|_| maybe_reused || self.is_late());
            return self.reap(guard, pidfd, inode, seen_at);
        }
        let result = status_query::query(guard.record(), &source);
        match (result, source) {
            (QueryResult::Status(outcome, usage), source) => {
                let record = Arc::clone(guard.record());
                let guard = guard.finish(outcome, usage, seen_at);
                self.ended(&record);
                self.finished(outcome, guard);
                match source {
                    StatusSource::Pidfd(pidfd) => self.engine.close(pidfd),
                    _ => Ok(()),
                }
            }
            (QueryResult::NotYet, StatusSource::Pidfd(pidfd)) if guard.record().is_abandoned() => {
                self.abandoned(guard, Some(pidfd))
            }
            (QueryResult::NotYet, StatusSource::Pidfd(pidfd)) => {
                self.engine.arm_after_delay(guard, Some(pidfd))
            }
            // Only a query by pidfd returns `NotYet`.
            (QueryResult::NotYet, _) => Ok(()),
        }
    }

    /// Reaps a child that is ours by its pid, which is not reused before that, as nothing else may
    /// reap the child.
    ///
    /// In case something else does, the pidfd detects it, where there is one. `inode` is given if
    /// the pid may have been reused meanwhile, and is compared as long as a descriptor is
    /// available.
    fn reap(
        &mut self,
        guard: DeliveryGuard,
        pidfd: Option<OwnedFd>,
        inode: Option<u64>,
        seen_at: Instant,
    ) -> io::Result<()> {
        let record = Arc::clone(guard.record());
        let reopened = match (&pidfd, inode) {
            (None, Some(inode)) => match sys::pidfd_open(record.pid()) {
                Ok(pidfd) if sys::inode(pidfd.as_fd()) == Some(inode) => Some(pidfd),
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => None,
                Ok(_) | Err(_) => {
                    let outcome = Outcome::Unknown(status_query::why_reaped(&record));
                    let guard = guard.finish(outcome, None, seen_at);
                    self.ended(&record);
                    self.finished(outcome, guard);
                    return Ok(());
                }
            },
            _ => None,
        };
        let target = match pidfd.as_ref().or(reopened.as_ref()) {
            Some(pidfd) => WaitTarget::ReapPidfd(pidfd.as_fd()),
            None => WaitTarget::ReapPid(record.pid()),
        };
        let reaped = guard.reap(target, || Some(status_query::why_reaped(&record)), seen_at);
        if let Some(pidfd) = pidfd {
            self.engine.close(pidfd)?;
        }
        match reaped {
            Reaped::Finished(outcome, guard) => {
                self.ended(&record);
                self.finished(outcome, guard);
                Ok(())
            }
            // A tracer must see the end first.
            Reaped::NotYet(guard) => self.engine.arm_after_delay(guard, None),
        }
    }

    /// Handles what depends on the end of a process, whose exit is stored.
    fn ended(&mut self, record: &Arc<Record>) {
        self.deadlines.ended(record);
        self.deadlines.kill_leftovers(record);
        if let Some(orphans) = &mut self.orphans {
            orphans.ended(record);
        }
    }

    fn finished(&mut self, outcome: Outcome, guard: Option<DeliveryGuard>) {
        let counters = &self.shared.counters;
        counters.delivered.add(1);
        if matches!(outcome, Outcome::Unknown(_)) {
            counters.unknown.add(1);
        }
        match guard {
            Some(guard) => self.backlog.push_back(guard),
            None => counters.watched.sub(1),
        }
    }

    /// Whether the exits of this turn may be so old that a process which something else reaped may
    /// have lost its pid to a new process. User code can cause that, before the wait or since.
    fn is_late(&self) -> bool {
        self.late || self.waited_at.elapsed() > PID_REUSE_MIN
    }
}
