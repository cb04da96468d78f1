//! Records and checks what contestants deliver: which exit, how often, right or wrong, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use anyhow::Result;
use exitring::Pid;

use super::children;
use super::clock::now_ns;
use super::interrupt;
use super::program::Program;
use super::shared_table::{SharedTable, Slot};
use crate::types::latency::Latencies;

/// Missing exits count as lost after this time without any delivery.
const NO_PROGRESS_TIMEOUT: Duration = Duration::from_secs(10);
/// Polls are rare, because a poll takes CPU time from the measured contestant.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) struct Recorder {
    pub(crate) table: Arc<SharedTable>,
    /// The time that each callback sleeps at its end.
    callback_sleep_ns: AtomicU64,
    /// Until then a pause without deliveries is part of the plan.
    quiet_until_ns: AtomicU64,
    wrong: AtomicU64,
    /// The number of children that were delivered at least once.
    done: AtomicU64,
    last_ns: AtomicU64,
    /// The value of `done` at which the waiting thread is woken up.
    wanted: AtomicU64,
    waiting: Thread,
}

impl Recorder {
    /// Makes a recorder for which only the calling thread may wait.
    pub(crate) fn new(slots: usize, callback_sleep: Duration) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            table: Arc::new(SharedTable::new(slots)?),
            callback_sleep_ns: AtomicU64::new(callback_sleep.as_nanos() as u64),
            quiet_until_ns: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            done: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
            wanted: AtomicU64::new(u64::MAX),
            waiting: std::thread::current(),
        }))
    }

    /// Waits until `wanted` children are delivered. Returns `false` if there was no delivery for a
    /// long time, or after an interrupt. Calls `progress` with the current number now and then.
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
                quiet + POLL_INTERVAL
            } else {
                Duration::ZERO
            };
            before = done;
            if now_ns() < self.quiet_until_ns.load(Ordering::Relaxed) {
                quiet = Duration::ZERO;
            }
            if quiet > NO_PROGRESS_TIMEOUT || interrupt::interrupted() {
                return false;
            }
            std::thread::park_timeout(POLL_INTERVAL);
        }
    }

    /// Checks the pid that the start of a child returned. The child executes a program, and its exit
    /// may have been delivered already.
    pub(crate) fn spawned(&self, index: usize, pid: Pid) {
        if !self.table.slots()[index].confirm_pid(pid) {
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sets the time until which long pauses are planned.
    pub(crate) fn quiet_until(&self, ns: u64) {
        self.quiet_until_ns.store(ns, Ordering::Relaxed);
    }

    /// Makes callbacks return at once from now on.
    pub(crate) fn stop_callback_sleep(&self) {
        self.callback_sleep_ns.store(0, Ordering::Relaxed);
    }

    /// The number of deliveries with the wrong process or the wrong status.
    pub(crate) fn wrong(&self) -> u64 {
        self.wrong.load(Ordering::Relaxed)
    }

    /// When the status of the last exit was known.
    pub(crate) fn last_ns(&self) -> u64 {
        self.last_ns.load(Ordering::Relaxed)
    }

    /// Counts the exits of some slots. An exit is lost if it happened until `until_ns` and was not
    /// delivered. A child that executed another program ends at an unknown time: its exit is lost
    /// if there is no limit (`u64::MAX`).
    pub(crate) fn count(&self, slots: &[Slot], until_ns: u64) -> Count {
        let mut count = Count::default();
        for slot in slots {
            let delivered = u64::from(slot.delivered.load(Ordering::Acquire));
            let ended = match slot.exec_code() {
                Some(_) => until_ns == u64::MAX,
                None => (1..=until_ns).contains(&slot.stamp_ns.load(Ordering::Acquire)),
            };
            count.exits += delivered.min(1);
            count.lost += u64::from(ended && delivered == 0);
            count.duplicates += delivered.saturating_sub(1);
        }
        count
    }
}

/// The counts of some slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Delivered exits, each counted once.
    pub(crate) exits: u64,
    /// Exits that were not delivered.
    pub(crate) lost: u64,
    /// Deliveries beyond the first.
    pub(crate) duplicates: u64,
}

/// The time between two moments of each delivered child. Both moments must be known.
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

/// The delivery of one exit, from the notification to the known status.
pub(crate) struct Delivery {
    index: usize,
    begun_ns: u64,
    /// When the status was known, if that is not the time of [`Delivery::end`].
    known_ns: Option<u64>,
}

impl Delivery {
    /// Takes the time. A contestant calls this first when it is notified of an exit.
    pub(crate) fn begin(index: usize) -> Self {
        Self {
            index,
            begun_ns: now_ns(),
            known_ns: None,
        }
    }

    /// A delivery whose status was known at another time, in another process.
    pub(crate) fn known_at(index: usize, known_ns: u64) -> Self {
        Self {
            index,
            begun_ns: known_ns,
            known_ns: Some(known_ns),
        }
    }

    /// Takes the time at which the status is known, if more is to be done before [`Delivery::end`].
    pub(crate) fn known_now(self) -> Self {
        Self {
            known_ns: Some(now_ns()),
            ..self
        }
    }

    /// Records how long ago the watcher saw the exit and queued it, if it reports that. Both are
    /// counted back from [`Delivery::known_now`].
    pub(crate) fn stages(&self, recorder: &Recorder, seen: Duration, queued: Option<Duration>) {
        let slot = &recorder.table.slots()[self.index];
        let now_ns = self.known_ns.unwrap_or(self.begun_ns);
        let before = |ago: Duration| now_ns.saturating_sub(ago.as_nanos() as u64);
        slot.seen_ns.store(before(seen), Ordering::Relaxed);
        if let Some(queued) = queued {
            slot.queued_ns.store(before(queued), Ordering::Relaxed);
        }
    }

    /// Takes the time, and checks what was delivered. A contestant calls this as soon as it knows
    /// the status. `code` is the exit code; `None` if the process did not exit, or if two sources
    /// gave different codes.
    pub(crate) fn end(self, recorder: &Recorder, pid: Pid, code: Option<i32>) {
        let known_ns = self.known_ns.unwrap_or_else(now_ns);
        let slot = &recorder.table.slots()[self.index];
        let stamp = slot.stamp_ns.load(Ordering::Acquire);
        let right = match slot.exec_code() {
            Some(expected) => slot.confirm_pid(pid) && code == Some(expected),
            None => {
                pid.as_raw() == slot.pid.load(Ordering::Acquire)
                    && code == Some(children::expected_code(self.index))
                    && stamp != 0
                    && self.begun_ns >= stamp
            }
        };
        if !right {
            recorder.wrong.fetch_add(1, Ordering::Relaxed);
        }
        slot.begun_ns.store(self.begun_ns, Ordering::Relaxed);
        slot.known_ns.store(known_ns, Ordering::Relaxed);
        if slot.delivered.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        recorder.last_ns.fetch_max(known_ns, Ordering::Relaxed);
        // A thread that reads the final value sees all stores above.
        let done = recorder.done.fetch_add(1, Ordering::SeqCst) + 1;
        if done == recorder.wanted.load(Ordering::SeqCst) {
            recorder.waiting.unpark();
        }
        let sleep_ns = recorder.callback_sleep_ns.load(Ordering::Relaxed);
        if sleep_ns > 0 {
            std::thread::sleep(Duration::from_nanos(sleep_ns));
        }
    }
}

/// The exit code, if the child of the program also wrote what it was to write.
pub(crate) fn code_with_output(program: &Program, output: &[u8], code: Option<i32>) -> Option<i32> {
    code.filter(|_| output == program.output())
}

/// Reaps a child that has ended, and returns its exit code.
pub(crate) fn reap(pid: Pid) -> Option<i32> {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer.
    let reaped = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::WNOHANG) };
    (reaped == pid.as_raw())
        .then(|| exit_code(status))
        .flatten()
}

/// The exit code in a wait status, if the process exited.
pub(crate) fn exit_code(status: i32) -> Option<i32> {
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::shared_table::Gate;

    /// Three children that are reaped, and several deliveries of them.
    #[test]
    fn lost_duplicate_and_wrong_deliveries_are_counted() {
        let recorder = Recorder::new(4, Duration::ZERO).expect("there is memory");
        let fork = |index| children::fork(&recorder.table, index, Gate::Exits).expect("it forks");
        let pids = [fork(0), fork(1), fork(2)];
        let counted = || {
            let count = recorder.count(recorder.table.slots(), u64::MAX);
            (count.exits, count.lost, count.duplicates, recorder.wrong())
        };
        assert_eq!(counted(), (0, 0, 0, 0));
        recorder.table.open(Gate::Exits);
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

        Delivery::begin(0).end(&recorder, pids[0], Some(0));
        assert_eq!(counted(), (1, 2, 0, 0));
        Delivery::begin(0).end(&recorder, pids[0], Some(0));
        assert_eq!(counted(), (1, 2, 1, 0));
        Delivery::begin(1).end(&recorder, pids[2], Some(1));
        Delivery::begin(2).end(&recorder, pids[2], None);
        assert_eq!(counted(), (3, 0, 1, 2));
        let stamp = |slot: &Slot| slot.stamp_ns.load(Ordering::Relaxed);
        assert!(
            recorder.table.slots()[..3]
                .iter()
                .all(|slot| stamp(slot) > 0)
        );
        let latencies = between(recorder.table.slots(), |s| &s.stamp_ns, |s| &s.known_ns);
        assert_eq!(latencies.expect("in range").percentiles().samples, 3);
        assert!(recorder.wait_for(3, |_| ()));
    }

    /// The exit codes repeat, so the codes of these children are the same.
    #[test]
    fn an_executed_child_is_confused_if_its_start_and_its_exit_have_different_pids() {
        let recorder = Recorder::new(3, Duration::ZERO).expect("there is memory");
        let [one, other] = [100, 101].map(|pid| Pid::new(pid).expect("a pid"));
        for slot in recorder.table.slots() {
            slot.prepare_exec(7, 1);
        }
        let deliver = |index, pid| Delivery::begin(index).end(&recorder, pid, Some(7));
        // The exit of the first comes after the return of its start, that of the second before it.
        recorder.spawned(0, one);
        deliver(0, one);
        deliver(1, other);
        recorder.spawned(1, other);
        // The pid of the third was not known at its start.
        deliver(2, one);
        assert_eq!(recorder.wrong(), 0);
        deliver(0, other);
        assert_eq!(recorder.wrong(), 1);
        recorder.spawned(2, other);
        assert_eq!(recorder.wrong(), 2);
    }
}
