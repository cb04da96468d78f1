//! What came of each child: delivered how often, right or wrong, how late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use anyhow::Result;
use exitring::Pid;

use crate::board::{Board, EXECED, Slot};
use crate::children;
use crate::clock::now_ns;
use crate::interrupt;
use crate::latency::Latencies;

/// How long nothing may happen before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// Looked at rarely: whoever looks takes a processor from what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) struct Tally {
    pub(crate) board: Arc<Board>,
    /// What each callback does when all is noted: it sleeps.
    callback_sleep_ns: AtomicU64,
    /// Until then it is no wonder if nothing happens.
    quiet_until_ns: AtomicU64,
    wrong: AtomicU64,
    /// Children delivered at least once.
    done: AtomicU64,
    last_ns: AtomicU64,
    /// Of those done, how many are to be before the waiting thread is woken.
    wanted: AtomicU64,
    waiting: Thread,
}

impl Tally {
    /// The calling thread is the one that will wait.
    pub(crate) fn new(slots: usize, callback_sleep: Duration) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            board: Arc::new(Board::new(slots)?),
            callback_sleep_ns: AtomicU64::new(callback_sleep.as_nanos() as u64),
            quiet_until_ns: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            done: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
            wanted: AtomicU64::new(u64::MAX),
            waiting: std::thread::current(),
        }))
    }

    /// Waits until so many are delivered; `false` if nothing has happened for long, or we are
    /// interrupted. `progress` hears of the state now and then.
    pub(crate) fn wait_for(&self, wanted: u64, mut progress: impl FnMut(u64)) -> bool {
        self.wanted.store(wanted, Ordering::SeqCst);
        let (mut before, mut quiet) = (0, Duration::ZERO);
        loop {
            let done = self.done.load(Ordering::SeqCst);
            progress(done);
            if done >= wanted {
                return true;
            }
            quiet = if done == before {
                quiet + LOOK_EVERY
            } else {
                Duration::ZERO
            };
            before = done;
            if now_ns() < self.quiet_until_ns.load(Ordering::Relaxed) {
                quiet = Duration::ZERO;
            }
            if quiet > PATIENCE || interrupt::interrupted() {
                return false;
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    /// Long pauses are planned until then.
    pub(crate) fn quiet_until(&self, ns: u64) {
        self.quiet_until_ns.store(ns, Ordering::Relaxed);
    }

    /// Callbacks are quick from now on.
    pub(crate) fn sleep_no_more(&self) {
        self.callback_sleep_ns.store(0, Ordering::Relaxed);
    }

    /// Deliveries of the wrong process or with the wrong status.
    pub(crate) fn wrong(&self) -> u64 {
        self.wrong.load(Ordering::Relaxed)
    }

    /// When the last exit was known.
    pub(crate) fn last_ns(&self) -> u64 {
        self.last_ns.load(Ordering::Relaxed)
    }

    /// What came of some children; as lost count those that ended until then.
    pub(crate) fn count(&self, slots: &[Slot], until_ns: u64) -> Count {
        let mut count = Count::default();
        for slot in slots {
            let delivered = u64::from(slot.delivered.load(Ordering::Acquire));
            let ended = (1..=until_ns).contains(&slot.stamp_ns.load(Ordering::Acquire));
            count.exits += delivered.min(1);
            count.lost += u64::from(ended && delivered == 0);
            count.duplicates += delivered.saturating_sub(1);
        }
        count
    }
}

/// Of some children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Delivered, each counted once.
    pub(crate) exits: u64,
    /// Ended, and not delivered.
    pub(crate) lost: u64,
    /// Deliveries beyond the first.
    pub(crate) duplicates: u64,
}

/// The time between two moments of each child that was delivered, for which both are known.
pub(crate) fn between(
    slots: &[Slot],
    from: impl Fn(&Slot) -> &AtomicU64,
    to: impl Fn(&Slot) -> &AtomicU64,
) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    for slot in slots {
        let (from, to) = (from(slot), to(slot));
        let (from, to) = (from.load(Ordering::Relaxed), to.load(Ordering::Relaxed));
        if slot.delivered.load(Ordering::Acquire) > 0 && from != 0 && to != 0 {
            latencies.record(to.saturating_sub(from))?;
        }
    }
    Ok(latencies)
}

/// One exit on its way into the tally.
pub(crate) struct Delivery {
    index: usize,
    begun_ns: u64,
    /// Where that is not told by the end.
    known_ns: Option<u64>,
}

impl Delivery {
    /// The first thing that a contestant does when it hears of an exit: the time is taken.
    pub(crate) fn begin(index: usize) -> Self {
        Self {
            index,
            begun_ns: now_ns(),
            known_ns: None,
        }
    }

    /// The same for one of which all was known at another time, and elsewhere.
    pub(crate) fn known_at(index: usize, known_ns: u64) -> Self {
        Self {
            index,
            begun_ns: known_ns,
            known_ns: Some(known_ns),
        }
    }

    /// For watchers that say when they saw the exit and when they queued it: how long before now.
    pub(crate) fn stages(&self, tally: &Tally, seen: Duration, queued: Option<Duration>) {
        let slot = &tally.board.slots()[self.index];
        let before = |ago: Duration| self.begun_ns.saturating_sub(ago.as_nanos() as u64);
        slot.seen_ns.store(before(seen), Ordering::Relaxed);
        if let Some(queued) = queued {
            slot.queued_ns.store(before(queued), Ordering::Relaxed);
        }
    }

    /// As soon as it is known how the process ended: the time is taken, and what was delivered is checked.
    /// `code`: what it exited with, `None` if it did not, or different answers were had.
    pub(crate) fn end(self, tally: &Tally, pid: Pid, code: Option<i32>) {
        let known_ns = self.known_ns.unwrap_or_else(now_ns);
        let slot = &tally.board.slots()[self.index];
        let stamp = slot.stamp_ns.load(Ordering::Acquire);
        let right = match slot.due_ns.load(Ordering::Acquire) {
            EXECED => code == Some(0),
            _ => {
                pid.as_raw() == slot.pid.load(Ordering::Acquire)
                    && code == Some(children::code(self.index))
                    && stamp != 0
                    && self.begun_ns >= stamp
            }
        };
        if !right {
            tally.wrong.fetch_add(1, Ordering::Relaxed);
        }
        slot.begun_ns.store(self.begun_ns, Ordering::Relaxed);
        slot.known_ns.store(known_ns, Ordering::Relaxed);
        if slot.delivered.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        tally.last_ns.fetch_max(known_ns, Ordering::Relaxed);
        // Whoever sees all done sees all of the above.
        let done = tally.done.fetch_add(1, Ordering::SeqCst) + 1;
        if done == tally.wanted.load(Ordering::SeqCst) {
            tally.waiting.unpark();
        }
        let sleep_ns = tally.callback_sleep_ns.load(Ordering::Relaxed);
        if sleep_ns > 0 {
            std::thread::sleep(Duration::from_nanos(sleep_ns));
        }
    }
}

/// Reaps a child that has ended; the code that it exited with.
pub(crate) fn reap(pid: Pid) -> Option<i32> {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer.
    let reaped = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::WNOHANG) };
    (reaped == pid.as_raw())
        .then(|| exit_code(status))
        .flatten()
}

/// The code in a wait status, if it has one.
pub(crate) fn exit_code(status: i32) -> Option<i32> {
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Gate;

    /// Three children that have ended and been reaped, and what a contestant might say of them.
    #[test]
    fn what_is_lost_doubled_or_wrong_is_counted() {
        let tally = Tally::new(4, Duration::ZERO).expect("memory there is");
        let fork = |index| children::fork(&tally.board, index, Gate::Exits).expect("it forks");
        let pids = [fork(0), fork(1), fork(2)];
        let counted = || {
            let count = tally.count(tally.board.slots(), u64::MAX);
            (count.exits, count.lost, count.duplicates, tally.wrong())
        };
        assert_eq!(counted(), (0, 0, 0, 0));
        tally.board.open(Gate::Exits);
        let ended = pids.map(|pid| {
            loop {
                if let Some(code) = reap(pid) {
                    break code;
                }
                std::thread::yield_now();
            }
        });
        assert_eq!(ended, [0, 1, 2]);
        assert_eq!(counted(), (0, 3, 0, 0));

        Delivery::begin(0).end(&tally, pids[0], Some(0));
        assert_eq!(counted(), (1, 2, 0, 0));
        Delivery::begin(0).end(&tally, pids[0], Some(0));
        assert_eq!(counted(), (1, 2, 1, 0));
        Delivery::begin(1).end(&tally, pids[2], Some(1));
        Delivery::begin(2).end(&tally, pids[2], None);
        assert_eq!(counted(), (3, 0, 1, 2));
        let stamp = |slot: &Slot| slot.stamp_ns.load(Ordering::Relaxed);
        assert!(tally.board.slots()[..3].iter().all(|slot| stamp(slot) > 0));
        let latencies = between(tally.board.slots(), |s| &s.stamp_ns, |s| &s.known_ns);
        assert_eq!(latencies.expect("in range").percentiles().samples, 3);
        assert!(tally.wait_for(3, |_| ()));
    }
}
