//! Delivery: reads the status of each ended process, and stores the exit in its record.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::backend::{Event, StatusSource};
use crate::dispatch::queued::Queued;
use crate::record::delivery_guard::DeliveryGuard;
use crate::record::{Ownership, Record};
use crate::ring_thread::event_loop::RingThread;
use crate::ring_thread::unread_exit::{ReadExit, UnreadExit};
use crate::sync::shrink::ShrinkIfSparse;
use crate::types::exit::Outcome;

/// How many exits in one wake-up begin a burst. In a burst it pays to wait for a batch, because
/// each wake-up takes a processor from the processes that are about to exit.
const BURST_MIN: usize = 8;
/// How many exits in one wake-up continue a burst: what the short wait of a batch brings when only
/// two or three processors end processes.
const BURST_CONTINUES_MIN: usize = 3;
/// The number of exits between one that is delivered and one whose record is loaded into the cache.
const PREFETCH_DISTANCE: usize = 2;

impl RingThread {
    /// Delivers the events of the last wait.
    pub(super) fn deliver(&mut self) -> io::Result<()> {
        let mut ended = 0;
        let mut events = std::mem::take(&mut self.events);
        let is_single = matches!(events[..], [Event::Ended(..)]);
        let mut events_left = events.drain(..);
        while let Some(event) = events_left.next() {
            if let Some(Event::Ended(guard, _)) = events_left.as_slice().get(PREFETCH_DISTANCE) {
                guard.prefetch();
            }
            match event {
                Event::Disarmed => self.shared.counters.watched.sub(1),
                Event::Ended(guard, source) => {
                    ended += 1;
                    let unread = match is_single {
                        true => self.pass_to_worker(guard, source),
                        false => Some(self.unread(guard, source)),
                    };
                    if let Some(unread) = unread {
                        self.deliver_one(unread)?;
                    }
                }
            }
        }
        drop(events_left);
        events.shrink_if_sparse();
        self.events = events;
        let burst_min = match self.burst {
            true => BURST_CONTINUES_MIN,
            false => BURST_MIN,
        };
        self.burst = ended >= burst_min;
        Ok(())
    }

    /// Passes a single exit to an idle worker, which reads the status and runs the callbacks.
    ///
    /// A sleeping processor takes longer to wake up than the child takes to reap, so the worker
    /// should wake up as early as possible. Returns the exit if this thread has to read it:
    ///
    /// - The child is not ours to reap. Another part of the program may reap it at any moment, so
    ///   its status is read at once.
    /// - Nothing would show that its pid is in use again when the worker runs.
    /// - Something else than callbacks waits for it.
    /// - There was no pause before it, or no worker is idle, or other exits are queued before it.
    fn pass_to_worker(&mut self, guard: DeliveryGuard, source: StatusSource) -> Option<UnreadExit> {
        let unread = self.unread(guard, source);
        let may_pass = self.after_pause
            && !self.shared.settings.inline
            && self.orphans.is_none()
            && self.backlog.is_empty()
            && unread.is_identified_child()
            && unread.guard.record().is_for_callbacks_only();
        if !may_pass {
            return Some(unread);
        }
        let queued = Queued::Unread(Box::new(unread));
        match self.shared.queue.push_to_idle(queued) {
            Ok(()) => {
                #[cfg(test)]
                self.shared.passed.add(1);
                None
            }
            Err(Queued::Unread(unread)) => Some(*unread),
            Err(Queued::Exit(_)) => None, // Only what was pushed is returned.
        }
    }

    fn unread(&self, guard: DeliveryGuard, source: StatusSource) -> UnreadExit {
        UnreadExit {
            guard,
            source,
            seen_at: self.waited_at,
            maybe_reused: self.late,
        }
    }

    fn deliver_one(&mut self, unread: UnreadExit) -> io::Result<()> {
        let pidfd = match unread.read(self.shared.settings.usage) {
            ReadExit::Stored {
                record,
                outcome,
                guard,
                pidfd,
            } => {
                self.ended(&record);
                self.finished(outcome, guard);
                pidfd
            }
            // Something else (a tracer, a wait in progress) must see the end first.
            ReadExit::NotYet(guard, pidfd) => return self.retry(guard, pidfd),
        };
        pidfd.map_or(Ok(()), |pidfd| self.engine.close(pidfd))
    }

    /// Arms a watch again whose status is not available yet.
    pub(super) fn retry(&mut self, guard: DeliveryGuard, pidfd: Option<OwnedFd>) -> io::Result<()> {
        match (guard.record().ownership(), pidfd) {
            (Ownership::Owned, pidfd) => {
                if let Some(pidfd) = pidfd {
                    self.engine.close(pidfd)?;
                }
                self.engine.arm_after_delay(guard, None)
            }
            (_, pidfd) if guard.record().is_abandoned() => self.abandoned(guard, pidfd),
            (_, pidfd) => self.engine.arm_after_delay(guard, pidfd),
        }
    }

    /// Handles what depends on the end of a process, whose exit is stored.
    pub(super) fn ended(&mut self, record: &Arc<Record>) {
        self.deadlines.ended(record);
        self.deadlines.kill_leftovers(record);
        if let Some(orphans) = &mut self.orphans {
            orphans.ended(record);
        }
    }

    fn finished(&mut self, outcome: Outcome, guard: Option<DeliveryGuard>) {
        self.shared.counters.count_delivery(outcome);
        match guard {
            Some(guard) => self.backlog.push_back(Queued::Exit(guard)),
            None => self.shared.counters.watched.sub(1),
        }
    }
}
