//! Children that outlive the watcher that was to reap them.
//!
//! They are let run, and reaped all the same: a thread of their own looks after them every now and then,
//! and ends when there are none left. It is a last resort, and need not be quick. If no thread can be had, it is tried again
//! whenever a watcher is built or takes on a child.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::faults;
use crate::record::Record;
use crate::record::delivery_guard::{DeliveryGuard, Reaped};
use crate::sync::per_process::PerProcess;
use crate::sync::signal_mask;
use crate::sys::WaitTarget;
use crate::types::exit::Unknown;

const POLL_INTERVAL_MIN: Duration = Duration::from_millis(2);
const POLL_INTERVAL_MAX: Duration = Duration::from_millis(500);

#[derive(Default)]
struct OrphanReaper {
    new: Vec<Arc<Record>>,
    /// A thread looks after them.
    looked_after: bool,
}

static ORPHAN_REAPER: PerProcess<Mutex<OrphanReaper>> = PerProcess::new();
/// There are orphans, and no thread could be had.
static ABANDONED: AtomicBool = AtomicBool::new(false);

fn orphan_reaper() -> MutexGuard<'static, OrphanReaper> {
    let orphan_reaper = ORPHAN_REAPER.get().lock();
    orphan_reaper.unwrap_or_else(PoisonError::into_inner)
}

/// Sees to it that the child is reaped when it ends.
pub(crate) fn adopt(record: Arc<Record>) {
    let mut orphan_reaper = orphan_reaper();
    orphan_reaper.new.push(record);
    orphan_reaper.ensure_thread();
}

/// If no thread could be had for orphans, perhaps one can be now.
pub(crate) fn restart() {
    if ABANDONED.load(Ordering::Relaxed) {
        orphan_reaper().ensure_thread();
    }
}

impl OrphanReaper {
    fn ensure_thread(&mut self) {
        if self.looked_after || self.new.is_empty() {
            return;
        }
        let thread = faults::inject("clone").and_then(|()| {
            let thread = thread::Builder::new().name("exitring-orphan".into());
            signal_mask::start_thread(thread, run)
        });
        self.looked_after = thread.is_ok();
        if !self.looked_after {
            self.new.retain(|record| !reap(record));
        }
        ABANDONED.store(
            !self.looked_after && !self.new.is_empty(),
            Ordering::Relaxed,
        );
    }
}

fn run() {
    let mut orphans = Vec::new();
    let mut pause = POLL_INTERVAL_MIN;
    loop {
        {
            let mut orphan_reaper = orphan_reaper();
            if !orphan_reaper.new.is_empty() {
                pause = POLL_INTERVAL_MIN;
            }
            orphans.append(&mut orphan_reaper.new);
            if orphans.is_empty() {
                orphan_reaper.looked_after = false;
                return;
            }
        }
        orphans.retain(|record| !reap(record));
        thread::sleep(pause);
        pause = (pause * 2).min(POLL_INTERVAL_MAX);
    }
}

/// Whether it is over.
fn reap(record: &Arc<Record>) -> bool {
    let gone = || Some(Unknown::ReapedElsewhere);
    let target = WaitTarget::ReapPid(record.pid());
    match DeliveryGuard::new(Arc::clone(record)).reap(target, gone, Instant::now()) {
        Reaped::Finished(_, guard) => {
            // The record is closed, so there are no callbacks.
            debug_assert!(guard.is_none(), "a closed record has callbacks");
            true
        }
        Reaped::NotYet(guard) => {
            guard.done();
            false
        }
    }
}
