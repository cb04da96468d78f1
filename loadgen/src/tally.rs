//! What came of each child: delivered how often, right or wrong, how late.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use exitring::Pid;

use crate::children::{Children, now_ns};

/// How long nothing may happen before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Tally {
    pub(crate) children: Children,
    delivered: Vec<AtomicU32>,
    latency_ns: Vec<AtomicU64>,
    wrong: AtomicU64,
    /// Children delivered at least once.
    done: AtomicU64,
    last_ns: AtomicU64,
    /// To be unparked when the last one is done.
    waiting: Thread,
}

impl Tally {
    /// The calling thread is the one that will wait.
    pub(crate) fn new(children: Children) -> Self {
        let count = children.pids().len();
        Self {
            children,
            delivered: (0..count).map(|_| AtomicU32::new(0)).collect(),
            latency_ns: (0..count).map(|_| AtomicU64::new(0)).collect(),
            wrong: AtomicU64::new(0),
            done: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
            waiting: std::thread::current(),
        }
    }

    /// Waits until all are delivered, or nothing has happened for long; `progress` hears of
    /// the state now and then.
    pub(crate) fn wait(&self, mut progress: impl FnMut(u64)) {
        let all = self.delivered.len() as u64;
        let mut before = 0;
        let mut quiet = Duration::ZERO;
        // Looked at rarely: whoever looks takes a processor from what is measured.
        const LOOK_EVERY: Duration = Duration::from_millis(100);
        loop {
            let done = self.done.load(Ordering::Acquire);
            progress(done);
            quiet = match done == before {
                true => quiet + LOOK_EVERY,
                false => Duration::ZERO,
            };
            before = done;
            if done == all || quiet > PATIENCE {
                return;
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    pub(crate) fn exits(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.delivered.len() as u64 - self.exits()
    }

    /// Deliveries beyond the first.
    pub(crate) fn duplicates(&self) -> u64 {
        let counts = self.delivered.iter().map(|n| n.load(Ordering::Relaxed));
        counts.map(|n| u64::from(n.saturating_sub(1))).sum()
    }

    /// Deliveries of the wrong process or with the wrong status.
    pub(crate) fn wrong(&self) -> u64 {
        self.wrong.load(Ordering::Relaxed)
    }

    /// When the last exit was done with.
    pub(crate) fn last_ns(&self) -> u64 {
        self.last_ns.load(Ordering::Relaxed)
    }

    /// Of what was delivered.
    pub(crate) fn latencies_ns(&self) -> impl Iterator<Item = u64> {
        let both = self.latency_ns.iter().zip(&self.delivered);
        both.filter(|(_, delivered)| delivered.load(Ordering::Relaxed) > 0)
            .map(|(latency, _)| latency.load(Ordering::Relaxed))
    }
}

/// One exit on its way into the tally.
pub(crate) struct Delivery {
    index: usize,
    begun_ns: u64,
}

impl Delivery {
    /// The first thing that a contestant does when it knows of an exit: the time is taken.
    pub(crate) fn begin(index: usize) -> Self {
        Self {
            index,
            begun_ns: now_ns(),
        }
    }

    /// The last thing: what was delivered, and reaped, is checked. `code`: what the process
    /// exited with, `None` if it did not, or different answers were had.
    pub(crate) fn end(self, tally: &Tally, pid: Pid, code: Option<i32>) {
        let index = self.index;
        let stamp = tally.children.stamp_ns(index);
        let right = pid == tally.children.pids()[index]
            && code == Some(Children::code(index))
            && stamp != 0
            && self.begun_ns >= stamp;
        if !right {
            tally.wrong.fetch_add(1, Ordering::Relaxed);
        }
        let latency = self.begun_ns.saturating_sub(stamp);
        tally.latency_ns[index].store(latency, Ordering::Relaxed);
        if tally.delivered[index].fetch_add(1, Ordering::Relaxed) > 0 {
            return;
        }
        tally.last_ns.fetch_max(now_ns(), Ordering::Relaxed);
        // Release: whoever sees all done sees all of the above.
        let done = tally.done.fetch_add(1, Ordering::AcqRel) + 1;
        if done == tally.delivered.len() as u64 {
            tally.waiting.unpark();
        }
    }
}

/// Reaps a child that has ended; the code that it exited with.
pub(crate) fn reap(pid: Pid) -> Option<i32> {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer.
    let reaped = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::WNOHANG) };
    (reaped == pid.as_raw() && libc::WIFEXITED(status)).then(|| libc::WEXITSTATUS(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three children that have ended and been reaped, and what a contestant might say of them.
    #[test]
    fn what_is_lost_doubled_or_wrong_is_counted() {
        let children = Children::fork(3, || ()).expect("three can be had");
        let tally = Tally::new(children);
        tally.children.release();
        let pids = tally.children.pids();
        let ended = pids.iter().map(|&pid| {
            loop {
                if let Some(code) = reap(pid) {
                    break code;
                }
                std::thread::yield_now();
            }
        });
        assert_eq!(ended.collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((tally.exits(), tally.lost()), (0, 3));

        Delivery::begin(0).end(&tally, pids[0], Some(0));
        assert_eq!((tally.lost(), tally.duplicates(), tally.wrong()), (2, 0, 0));
        Delivery::begin(0).end(&tally, pids[0], Some(0));
        assert_eq!((tally.lost(), tally.duplicates(), tally.wrong()), (2, 1, 0));
        Delivery::begin(1).end(&tally, pids[2], Some(1));
        Delivery::begin(2).end(&tally, pids[2], None);
        assert_eq!((tally.lost(), tally.duplicates(), tally.wrong()), (0, 1, 2));
        assert!(tally.latencies_ns().all(|latency| latency > 0));
    }
}
