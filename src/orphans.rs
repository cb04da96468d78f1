//! Children that outlive the watcher that was to reap them.
//!
//! They are let run, and reaped all the same: a thread of their own looks after them every now and then,
//! and ends when there are none left. It is a last resort, and need not be quick.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::duty::{Duty, Reaped};
use crate::exit::Unknown;
use crate::record::Record;

const LOOK_EVERY_MIN: Duration = Duration::from_millis(2);
const LOOK_EVERY_MAX: Duration = Duration::from_millis(500);

struct Orphanage {
    /// The process whose children they are: a forked child has a copy of this, and no part in it.
    process: u32,
    new: Vec<Arc<Record>>,
    /// A thread looks after them.
    looked_after: bool,
}

static ORPHANAGE: Mutex<Orphanage> = Mutex::new(Orphanage {
    process: 0,
    new: Vec::new(),
    looked_after: false,
});

/// Sees to it that the child is reaped when it ends.
pub(crate) fn take_in(record: Arc<Record>) {
    let mut orphanage = ORPHANAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if orphanage.process != process {
        orphanage.process = process;
        orphanage.looked_after = false;
        // The parent's, so not ours to drop either.
        mem::forget(mem::take(&mut orphanage.new));
    }
    orphanage.new.push(record);
    if !orphanage.looked_after {
        let thread = thread::Builder::new().name("exitring-orphan".into());
        // If no thread can be had, the next orphan's coming is the next occasion.
        orphanage.looked_after = thread.spawn(look_after).is_ok();
    }
}

fn look_after() {
    let mut orphans = Vec::new();
    let mut pause = LOOK_EVERY_MIN;
    loop {
        {
            let mut orphanage = ORPHANAGE.lock().unwrap_or_else(PoisonError::into_inner);
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
    match Duty::new(Arc::clone(record)).reap(gone, Instant::now()) {
        Reaped::Finished(_, duty, remnant) => {
            // With the watcher, who would have kept the grace is gone.
            if let Some(remnant) = remnant {
                remnant.kill();
            }
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
