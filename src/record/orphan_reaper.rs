//! Reaps children of ours that outlive their watcher.
//!
//! Such children keep running. A thread polls them at growing intervals, reaps those that end, and
//! ends itself when none is left. It is a last resort, and need not be quick. If the thread cannot
//! be started, the next watcher that is built, or that takes a child, tries again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Record;
use super::delivery_guard::{DeliveryGuard, Reaped};
use crate::faults;
use crate::sync::per_process::PerProcess;
use crate::sync::signal_mask;
use crate::sys::WaitTarget;
use crate::types::exit::Unknown;

const POLL_INTERVAL_MIN: Duration = Duration::from_millis(2);
const POLL_INTERVAL_MAX: Duration = Duration::from_millis(500);

#[derive(Default)]
struct OrphanReaper {
    incoming: Vec<Arc<Record>>,
    /// Whether the thread runs.
    has_thread: bool,
}

static ORPHAN_REAPER: PerProcess<Mutex<OrphanReaper>> = PerProcess::new();
/// There are orphans, and their thread could not be started.
static THREAD_MISSING: AtomicBool = AtomicBool::new(false);

fn orphan_reaper() -> MutexGuard<'static, OrphanReaper> {
    let orphan_reaper = ORPHAN_REAPER.get().lock();
    orphan_reaper.unwrap_or_else(PoisonError::into_inner)
}

/// Takes a child, to reap it when it ends.
pub(crate) fn adopt(record: Arc<Record>) {
    let mut orphan_reaper = orphan_reaper();
    orphan_reaper.incoming.push(record);
    orphan_reaper.ensure_thread();
}

/// Starts the thread for orphans, if it could not be started before.
pub(crate) fn restart() {
    if THREAD_MISSING.load(Ordering::Relaxed) {
        orphan_reaper().ensure_thread();
    }
}

impl OrphanReaper {
    fn ensure_thread(&mut self) {
        if self.has_thread || self.incoming.is_empty() {
            return;
        }
        let thread = faults::inject("clone").and_then(|()| {
            let thread = thread::Builder::new().name("exitring-orphan".into());
            signal_mask::start_thread(thread, run)
        });
        self.has_thread = thread.is_ok();
        if !self.has_thread {
            self.incoming.retain(|record| !reap(record));
        }
        THREAD_MISSING.store(
            !self.has_thread && !self.incoming.is_empty(),
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
            if !orphan_reaper.incoming.is_empty() {
                pause = POLL_INTERVAL_MIN;
            }
            orphans.append(&mut orphan_reaper.incoming);
            if orphans.is_empty() {
                orphan_reaper.has_thread = false;
                return;
            }
        }
        orphans.retain(|record| !reap(record));
        thread::sleep(pause);
        pause = (pause * 2).min(POLL_INTERVAL_MAX);
    }
}

/// Reaps the child if it has ended, and returns whether it has.
fn reap(record: &Arc<Record>) -> bool {
    let gone = || Some(Unknown::ReapedElsewhere);
    let target = WaitTarget::ReapPid(record.pid());
    match DeliveryGuard::new(Arc::clone(record)).reap(target, gone, Instant::now()) {
        Reaped::Finished(_, guard) => {
            // The record is closed, so there are no callbacks.
            debug_assert!(guard.is_none(), "a closed record has callbacks");
            if let Some(leaf) = record.leftovers_to_kill() {
                let _ = leaf.kill();
            }
            true
        }
        Reaped::NotYet(guard) => {
            guard.done();
            false
        }
    }
}
