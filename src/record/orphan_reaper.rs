//! Reaps children of ours that outlive their watcher, or that no watcher has taken.
//!
//! Such children keep running. A thread polls them at growing intervals, reaps those that end, and
//! ends itself when none is left. It is a last resort, and need not be quick. If the thread cannot
//! be started, the next watcher that is built, or that takes a child, tries again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::delivery_guard::{DeliveryGuard, Reaped};
use super::{Ownership, Record, WatchFor};
use crate::Pid;
use crate::faults;
use crate::sync::per_process::PerProcess;
use crate::sync::signal_mask;
use crate::sys::{self, WaitResult, WaitTarget};
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

/// Kills and reaps a child that cannot be watched. One that this process is not permitted to kill, as
/// it has another user, is reaped when it ends.
pub(crate) fn kill(pid: Pid) {
    if !sys::kill_and_reap(pid) {
        let record = Record::new(pid, Ownership::Owned, WatchFor::Exited);
        record.close();
        adopt(Arc::new(record));
    }
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
    // A report of its cgroup would include the child itself.
    if let Ok(WaitResult::Pending) = sys::waitid(WaitTarget::PeekPid(record.pid())) {
        return false;
    }
    let gone = || Some(Unknown::ReapedElsewhere);
    let target = WaitTarget::ReapPid(record.pid());
    match DeliveryGuard::new(Arc::clone(record)).reap(target, true, gone, Instant::now()) {
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

#[cfg(all(test, not(exitring_loom)))]
mod tests {
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    use std::thread;

    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

    use super::*;

    #[test]
    #[expect(clippy::zombie_processes, reason = "the reaper reaps it")]
    fn a_child_that_may_not_be_killed_is_not_waited_for_and_reaped_later() {
        if !rustix::process::geteuid().is_root() {
            return println!("not tested: another user needs root");
        }
        let mut command = Command::new("sh");
        command.args(["-c", "echo; read line"]).uid(65_534);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("sh starts");
        // From here on it has the other user.
        let mut stdout = child.stdout.take().expect("it is piped");
        stdout.read_exact(&mut [0]).expect("it runs");
        let pid = Pid::try_from(child.id()).expect("a pid");
        // Capabilities are those of a thread.
        let without_kill = thread::spawn(move || {
            let mut sets = capabilities(None).expect("they are readable");
            sets.effective.remove(CapabilitySet::KILL);
            set_capabilities(None, sets).expect("a capability is given up");
            kill(pid);
        });
        without_kill.join().expect("no panic");
        let is_child = || {
            matches!(
                sys::waitid(WaitTarget::PeekPid(pid)),
                Ok(sys::WaitResult::Pending)
            )
        };
        assert!(is_child(), "it lives");
        drop(child.stdin.take());
        let start = Instant::now();
        while !matches!(
            sys::waitid(WaitTarget::PeekPid(pid)),
            Ok(sys::WaitResult::NoChild)
        ) {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "it is not reaped"
            );
            thread::sleep(Duration::from_millis(1));
        }
    }
}
