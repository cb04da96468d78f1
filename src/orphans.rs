//! Children that outlive the watcher that was to reap them.
//!
//! They are let run, and reaped all the same: a thread of their own looks after them every now and then,
//! and ends when there are none left. It is a last resort, and need not be quick. If no thread can be had, it is tried again
//! whenever a watcher is built or takes on a child.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::duty::{Duty, Reaped};
use crate::exit::Unknown;
use crate::faults;
use crate::per_process::PerProcess;
use crate::record::Record;
use crate::signal_mask;
use crate::sys::Ask;

const LOOK_EVERY_MIN: Duration = Duration::from_millis(2);
const LOOK_EVERY_MAX: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Orphanage {
    new: Vec<Arc<Record>>,
    /// A thread looks after them.
    looked_after: bool,
}

static ORPHANAGE: PerProcess<Mutex<Orphanage>> = PerProcess::new();
/// There are orphans, and no thread could be had.
static ABANDONED: AtomicBool = AtomicBool::new(false);

fn orphanage() -> MutexGuard<'static, Orphanage> {
    let orphanage = ORPHANAGE.get().lock();
    orphanage.unwrap_or_else(PoisonError::into_inner)
}

/// Sees to it that the child is reaped when it ends.
pub(crate) fn take_in(record: Arc<Record>) {
    let mut orphanage = orphanage();
    orphanage.new.push(record);
    orphanage.have_looked_after();
}

/// If no thread could be had for orphans, perhaps one can be now.
pub(crate) fn try_again() {
    if ABANDONED.load(Ordering::Relaxed) {
        orphanage().have_looked_after();
    }
}

impl Orphanage {
    fn have_looked_after(&mut self) {
        if self.looked_after || self.new.is_empty() {
            return;
        }
        let thread = faults::strike("clone").and_then(|()| {
            let thread = thread::Builder::new().name("exitring-orphan".into());
            signal_mask::start_thread(thread, look_after)
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

fn look_after() {
    let mut orphans = Vec::new();
    let mut pause = LOOK_EVERY_MIN;
    loop {
        {
            let mut orphanage = orphanage();
            if !orphanage.new.is_empty() {
                pause = LOOK_EVERY_MIN;
            }
            orphans.append(&mut orphanage.new);
            if orphans.is_empty() {
                orphanage.looked_after = false;
                return;
            }
        }
        orphans.retain(|record| !reap(record));
        thread::sleep(pause);
        pause = (pause * 2).min(LOOK_EVERY_MAX);
    }
}

/// Whether it is over.
fn reap(record: &Arc<Record>) -> bool {
    let gone = || Some(Unknown::ReapedElsewhere);
    let ask = Ask::Reap(record.pid());
    match Duty::new(Arc::clone(record)).reap(ask, gone, Instant::now()) {
        Reaped::Finished(_, duty) => {
            // The record is closed, so there are no callbacks.
            debug_assert!(duty.is_none(), "a closed record has callbacks");
            true
        }
        Reaped::NotYet(duty) => {
            duty.done();
            false
        }
    }
}
