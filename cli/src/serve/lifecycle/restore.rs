//! Restores the watches that were live when the previous service stopped.
//!
//! | process, at the start | condition | record |
//! |---|---|---|
//! | a child (after a reexec) | runs or is a zombie | its status, as without a restart |
//! | its pidfd was kept by systemd | runs | its status when it is reaped (a) |
//! | | was reaped | its status (a), otherwise unknown: service down |
//! | runs, same start time and inode | was released, or only watched | its status when reaped (a) |
//! | | waits at its start gate | it exits there: unknown, service down |
//! | is a zombie that nothing reaps | for ten seconds | unknown: not reaped |
//! | another one has its pid, or none | or the machine was booted | unknown: service down |
//!
//! (a) Since Linux 6.15. "Another one": with another start time or inode.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exitring_protocol::{Code, Outcome, Unknown, WatchFor};

use crate::serve::cgroups::{Leaf, PreviousPools};
use crate::serve::requests::spawn::WATCH_ID_VARIABLE;
use crate::serve::service::Service;
use crate::serve::store::{ProcessExit, StoredWatch};
use crate::serve::sys::clock::{boot_id, now_ms};
use crate::serve::sys::process;
use crate::serve::watches::{LiveWatch, WatchInfo};

/// How long a child at its start gate may take to notice that its service is gone.
const START_GATE_TIMEOUT: Duration = Duration::from_secs(2);

/// Restores all watches. `pidfds`: from systemd, by watch.
pub(crate) fn restore(
    service: &Arc<Service>,
    stored: Vec<StoredWatch>,
    mut pidfds: HashMap<u64, OwnedFd>,
    previous_pools: &PreviousPools,
) {
    let boot = boot_id();
    let (mut live_count, mut ended_count) = (0, 0);
    let mut at_gates = Vec::new();
    for row in stored {
        let pidfd = pidfds.remove(&row.info.id);
        let same_boot = row.boot == boot;
        // A leaf of before the boot does not exist any more.
        let leaf = row.info.leaf.clone().filter(|_| same_boot);
        let leaf = leaf.and_then(|leaf| previous_pools.leaf(leaf));
        match find(row.info, leaf, same_boot, pidfd) {
            ProcessState::Running(live, pidfd) => {
                live_count += 1;
                resume(service, &live, pidfd);
            }
            ProcessState::Spawned(live, pidfd) => at_gates.push((live, pidfd)),
            ProcessState::Ended(live, outcome) => {
                ended_count += 1;
                service.registry.restore(Arc::clone(&live));
                record_end(service, live, outcome);
            }
        }
    }
    // Pidfds without a stored watch: that ended before, or was cancelled.
    drop(pidfds);
    let infos = at_gates.iter().map(|(live, _)| live.info.clone());
    let released = wait_for_gates(&service.instance, infos.collect());
    for (live, pidfd) in at_gates {
        let known = released.get(&live.info.id).copied();
        // A program that has replaced its environment is not recognised in time. A child at its
        // start gate has exited by now, so what runs was released.
        match known.unwrap_or_else(|| !has_ended(&live.info)) {
            true => {
                live_count += 1;
                resume(service, &live, pidfd);
            }
            false => {
                ended_count += 1;
                service.registry.restore(Arc::clone(&live));
                record_end(service, live, Outcome::Unknown(Unknown::ServiceDown));
            }
        }
    }
    if live_count + ended_count > 0 {
        tracing::info!(
            live = live_count,
            ended = ended_count,
            "watches from before the restart"
        );
    }
}

/// What a stored watch's process does now.
enum ProcessState {
    Running(Arc<LiveWatch>, OwnedFd),
    /// Started by the previous service, and perhaps still at its start gate.
    Spawned(Arc<LiveWatch>, OwnedFd),
    Ended(Arc<LiveWatch>, Outcome),
}

fn find(
    info: WatchInfo,
    leaf: Option<Leaf>,
    same_boot: bool,
    stored: Option<OwnedFd>,
) -> ProcessState {
    let down = Outcome::Unknown(Unknown::ServiceDown);
    if !same_boot {
        return ProcessState::Ended(LiveWatch::new(info, false, false, leaf), down);
    }
    if let Some(pidfd) = stored
        // Another program may have stored the pidfd of another process under this name.
        && process::inode(&pidfd) == info.inode
    {
        return match process::pid_of(&pidfd) {
            Ok(Some(pid)) if pid == info.pid => {
                ProcessState::Running(not_a_child(info, leaf), pidfd)
            }
            // The file cannot be read now. If the process has ended, the watch reports that.
            Err(error) if error.raw_os_error() != Some(libc::EBADF) => {
                ProcessState::Running(not_a_child(info, leaf), pidfd)
            }
            Ok(_) | Err(_) => {
                let outcome = process::outcome_of(&pidfd).unwrap_or(down);
                ProcessState::Ended(not_a_child(info, leaf), outcome)
            }
        };
    }
    let pidfd = loop {
        match info.open_pidfd() {
            Ok(Some(pidfd)) => break pidfd,
            Ok(None) => return ProcessState::Ended(LiveWatch::new(info, false, false, leaf), down),
            // The process exists, but for lack of descriptors cannot be identified now.
            Err(error) => {
                tracing::warn!(watch = info.id, %error, "a process cannot be identified yet; retrying");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    };
    if info.spawned && process::is_own_child(info.pid) {
        return ProcessState::Running(LiveWatch::new(info, true, false, leaf), pidfd);
    }
    match info.spawned {
        true => ProcessState::Spawned(not_a_child(info, leaf), pidfd),
        false => ProcessState::Running(not_a_child(info, leaf), pidfd),
    }
}

/// A process that is not a child, or not any more. The status of a former child is known once its
/// new parent has reaped it.
fn not_a_child(info: WatchInfo, leaf: Option<Leaf>) -> Arc<LiveWatch> {
    let is_orphan = info.spawned;
    let until = match is_orphan {
        true => WatchFor::Reaped,
        false => info.until,
    };
    LiveWatch::new(WatchInfo { until, ..info }, false, is_orphan, leaf)
}

/// Whether a process has executed its program: only then does its environment have its watch. A
/// zombie has no environment. A program may deny access to its environment, which a child at its
/// start gate never does.
fn is_released(instance: &str, info: &WatchInfo) -> bool {
    match std::fs::read(format!("/proc/{}/environ", info.pid)) {
        Ok(environment) => {
            let its = format!("{WATCH_ID_VARIABLE}={instance}:{}", info.id);
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == its.as_bytes())
        }
        Err(error) => error.raw_os_error() == Some(libc::EACCES),
    }
}

/// Waits until each process was released or has ended, with one timeout for all. Returns which were
/// released, by watch. The reads run on another thread: a process can delay the read of its
/// environment as long as it likes.
fn wait_for_gates(instance: &str, infos: Vec<WatchInfo>) -> HashMap<u64, bool> {
    let deadline = Instant::now() + START_GATE_TIMEOUT;
    let (report, reports) = std::sync::mpsc::channel();
    let instance = instance.to_owned();
    let check = move || {
        let mut left = infos;
        while !left.is_empty() && Instant::now() < deadline {
            left.retain(|info| {
                let released = is_released(&instance, info);
                let known = released || has_ended(info);
                // Sending fails after the deadline.
                !known || report.send((info.id, released)).is_err()
            });
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    std::thread::spawn(check);
    let mut released = HashMap::new();
    // Ends with the thread, or at the deadline.
    while let Ok((id, is_released)) =
        reports.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    {
        released.insert(id, is_released);
    }
    released
}

fn has_ended(info: &WatchInfo) -> bool {
    // If that cannot be read now, it is read again.
    process::stat(info.pid).is_ok_and(|stat| stat.is_none_or(|stat| stat.has_ended()))
}

fn resume(service: &Arc<Service>, live: &Arc<LiveWatch>, pidfd: OwnedFd) {
    service.registry.restore(Arc::clone(live));
    service.deadlines.add(live);
    if let Err(error) = service.arm(live, pidfd) {
        tracing::warn!(watch = live.info.id, %error, "a restored process cannot be watched yet; retrying");
        let (service, live) = (Arc::clone(service), Arc::clone(live));
        std::thread::spawn(move || retry(&service, &live));
    }
}

/// Retries until it succeeds: there may be no free descriptors for a while.
fn retry(service: &Arc<Service>, live: &Arc<LiveWatch>) {
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let armed = match live.info.open_pidfd() {
            Ok(Some(pidfd)) => service.arm(live, pidfd),
            Ok(None) => {
                let down = Outcome::Unknown(Unknown::ServiceDown);
                return record_end(service, Arc::clone(live), down);
            }
            Err(_) => continue,
        };
        match armed {
            Ok(()) => return,
            Err(error) if error.code == Code::Stopping => return,
            Err(_) => {}
        }
    }
}

fn record_end(service: &Service, live: Arc<LiveWatch>, outcome: Outcome) {
    let exit = ProcessExit::new(live, outcome, None, now_ms());
    service.store.exit(exit);
}
