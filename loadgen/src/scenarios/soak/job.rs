//! A running child of a soak and its callbacks.

use std::process::ChildStdout;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use exitring::{Child, Exit, Pid, Watch};

use super::case::Expected;

/// The payload of panics that are part of the soak.
pub(super) const PANIC: &str = "a callback of the soak panics";

pub(super) enum Handle {
    Owned(Child),
    Watched(Watch),
    Dropped,
}

impl Handle {
    pub(super) fn child(&self) -> &Child {
        match self {
            Self::Owned(child) => child,
            _ => unreachable!("cases that send signals own the child"),
        }
    }
}

/// The number of times that each callback of a child ran.
#[derive(Default)]
pub(super) struct CallbackRuns {
    pub(super) first: AtomicU32,
    pub(super) second: AtomicU32,
}

pub(super) struct Job {
    pub(super) tag: u64,
    pub(super) runs: Arc<CallbackRuns>,
    pub(super) handle: Handle,
    /// Whether the exit is fetched from the queue, without a first callback.
    pub(super) queued: bool,
    /// The expected number of runs of the second callback, if there is one.
    pub(super) second: Option<u32>,
    /// What the exit leaves behind.
    pub(super) after: After,
}

pub(super) enum After {
    Nothing,
    /// Other processes, which end with the child. They have this pipe open until then.
    Tree(ChildStdout),
    /// A process in the cgroup of the child, which nobody has killed.
    Leftover,
}

impl Job {
    pub(super) fn new(tag: u64, handle: Handle) -> Self {
        Self {
            tag,
            runs: Arc::default(),
            handle,
            queued: false,
            second: None,
            after: After::Nothing,
        }
    }
}

/// A callback that checks the exit and counts its own run.
pub(super) fn checked_callback(
    runs: &Arc<CallbackRuns>,
    wrong: &Arc<AtomicU64>,
    pid: Pid,
    expected: Expected,
) -> impl FnOnce(&Exit) + Send + use<> {
    let (runs, wrong) = (Arc::clone(runs), Arc::clone(wrong));
    move |exit| {
        check_exit(exit, pid, expected, &wrong);
        runs.first.fetch_add(1, Ordering::SeqCst);
    }
}

/// Counts an exit of another process, or with another status than expected.
pub(super) fn check_exit(exit: &Exit, pid: Pid, expected: Expected, wrong: &AtomicU64) {
    if exit.pid() != pid || !expected.fits(exit) {
        eprintln!("loadgen: soak: {exit:?} instead of {expected:?} of process {pid}");
        wrong.fetch_add(1, Ordering::SeqCst);
    }
}

/// Suppresses the message of panics that are part of the soak.
pub(super) fn silence_expected_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&PANIC) {
            before(info);
        }
    }));
}
