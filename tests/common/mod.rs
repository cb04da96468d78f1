//! Helpers that the integration tests share.
//!
//! - `child`: children that end on command, and what the kernel reports about a process.
//! - `callback`: callbacks that report an exit or block their thread.
//! - `command_output`: what a command prints.
//! - `own_process`: runs one test in a process of its own.
//! - `limits`: the limit of descriptors, and the kernel's version.
//! - `deny`: system calls that seccomp denies; `examples/deny.rs` includes it, too.
//!
//! This file has the waits with a timeout. The other files may use it, and nothing else.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test file uses a part of the helpers"
)]

mod callback;
mod child;
pub mod command_output;
pub mod deny;
mod limits;
mod own_process;

pub use callback::*;
pub use child::*;
pub use limits::*;
pub use own_process::*;

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use exitring::{Stats, Watcher};

/// Much longer than anything here takes: a test that waits so long has failed.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Waits until a condition holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < TEST_TIMEOUT, "timeout: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until a condition on the watcher's statistics holds, and returns them.
#[track_caller]
pub fn until_stats(watcher: &Watcher, what: &str, holds: impl Fn(&Stats) -> bool) -> Stats {
    let mut stats = watcher.stats();
    until(what, || {
        stats = watcher.stats();
        holds(&stats)
    });
    stats
}

#[track_caller]
pub fn receive<T>(receiver: &Receiver<T>) -> T {
    receiver
        .recv_timeout(TEST_TIMEOUT)
        .expect("it is sent in time")
}

/// Runs a test with callbacks on the ring thread, on one worker, and on several.
pub fn each_worker_count(test: impl Fn(Watcher)) {
    for workers in [0, 1, 3] {
        test(
            Watcher::builder()
                .workers(workers)
                .build()
                .expect("a watcher can be built"),
        );
    }
}

/// The message of an error and of its sources.
pub fn message(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}
