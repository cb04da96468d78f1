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
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exitring_protocol::{Code, Outcome, Unknown, WatchFor};

use crate::serve::cgroups::{Leaf, PreviousPools};
use crate::serve::requests::spawn::EXIT_NOT_STARTED;
use crate::serve::service::Service;
use crate::serve::store::{ProcessExit, StoredWatch};
use crate::serve::sys::clock::{boot_id, now_ms};
use crate::serve::sys::process;
use crate::serve::watches::{LiveWatch, WatchInfo};

/// How long a child at its start gate may take to notice that its service is gone.
const START_GATE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often children at their start gates are looked at.
const START_GATE_INTERVAL: Duration = Duration::from_millis(5);
/// How often it is tried again to watch a process.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

const DOWN: Outcome = Outcome::Unknown(Unknown::ServiceDown);

/// Restores all watches. `pidfds`: from systemd, by watch. Returns those whose processes cannot be
/// watched yet, for [`retry`].
pub(crate) fn restore(
    service: &Service,
    stored: Vec<StoredWatch>,
    mut pidfds: HashMap<u64, OwnedFd>,
    previous_pools: &PreviousPools,
) -> Vec<Arc<LiveWatch>> {
    let boot = boot_id();
    let mut restored = Restored {
        service,
        live: 0,
        ended: 0,
        at_gates: Vec::new(),
        not_watched: Vec::new(),
    };
    for row in stored {
        let pidfd = pidfds.remove(&row.info.id);
        let same_boot = row.boot == boot;
        // A leaf of before the boot does not exist any more.
        let leaf = row.info.leaf.clone().filter(|_| same_boot);
        let leaf = leaf.and_then(|leaf| previous_pools.leaf(leaf));
        restored.add(find(row.info, leaf, same_boot, pidfd));
    }
    // Pidfds without a stored watch: that ended before, or was cancelled.
    drop(pidfds);
    restored.wait_for_gates();
    if restored.live + restored.ended > 0 {
        tracing::info!(
            live = restored.live,
            ended = restored.ended,
            "watches from before the restart"
        );
    }
    restored.not_watched
}

/// What a stored watch's process does now.
enum ProcessState {
    /// It runs, or is a zombie of the program.
    Running(Arc<LiveWatch>, OwnedFd),
    /// Started by the previous service, and not executed.
    AtStartGate(Arc<LiveWatch>, OwnedFd),
    Ended(Arc<LiveWatch>, Outcome),
}

/// The watches so far.
struct Restored<'a> {
    service: &'a Service,
    live: usize,
    ended: usize,
    at_gates: Vec<(Arc<LiveWatch>, OwnedFd)>,
    not_watched: Vec<Arc<LiveWatch>>,
}

impl Restored<'_> {
    fn add(&mut self, process: ProcessState) {
        match process {
            ProcessState::Running(live, pidfd) => {
                self.live += 1;
                self.service.registry.restore(Arc::clone(&live));
                self.service.deadlines.add(&live);
                if let Err(error) = self.service.arm(&live, pidfd) {
                    tracing::warn!(watch = live.info.id, %error, "a restored process cannot be watched yet; retrying");
                    self.not_watched.push(live);
                }
            }
            ProcessState::AtStartGate(live, pidfd) => self.at_gates.push((live, pidfd)),
            ProcessState::Ended(live, outcome) => {
                self.ended += 1;
                self.service.registry.restore(Arc::clone(&live));
                record_end(self.service, live, outcome);
            }
        }
    }

    /// Waits until no process is at its start gate, with one timeout for all.
    fn wait_for_gates(&mut self) {
        let deadline = Instant::now() + START_GATE_TIMEOUT;
        while !self.at_gates.is_empty() {
            std::thread::sleep(START_GATE_INTERVAL);
            let is_late = deadline <= Instant::now();
            for (live, pidfd) in mem::take(&mut self.at_gates) {
                self.add(at_gate(live, pidfd, is_late));
            }
        }
    }
}

/// What a process does now that the previous service started, by its name: the exec of its program
/// replaces the name that it has at its start gate.
fn at_gate(live: Arc<LiveWatch>, pidfd: OwnedFd, is_late: bool) -> ProcessState {
    match process::stat(live.info.pid) {
        Ok(Some(stat)) if stat.start_ticks == live.info.start_ticks => {
            match (stat.is_at_start_gate(), stat.has_ended()) {
                (true, true) => ProcessState::Ended(live, DOWN),
                // A child exits there in time. So this is a program that has taken the name.
                (true, false) if is_late => ProcessState::Running(live, pidfd),
                (true, false) => ProcessState::AtStartGate(live, pidfd),
                (false, _) => ProcessState::Running(live, pidfd),
            }
        }
        // Its directory in /proc is hidden (`hidepid`).
        Ok(_) if matches!(process::pid_of(&pidfd), Ok(Some(_))) => {
            ProcessState::Running(live, pidfd)
        }
        // It was reaped. If it ended at its start gate, its exit code says so.
        Ok(_) => {
            let outcome = process::outcome_of(&pidfd);
            let its = outcome.filter(|outcome| *outcome != Outcome::Exited(EXIT_NOT_STARTED));
            ProcessState::Ended(live, its.unwrap_or(DOWN))
        }
        // No descriptor is free to read that.
        Err(_) if is_late => ProcessState::Running(live, pidfd),
        Err(_) => ProcessState::AtStartGate(live, pidfd),
    }
}

fn find(
    info: WatchInfo,
    leaf: Option<Leaf>,
    same_boot: bool,
    stored: Option<OwnedFd>,
) -> ProcessState {
    if !same_boot {
        return ProcessState::Ended(LiveWatch::new(info, false, false, leaf), DOWN);
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
                let outcome = process::outcome_of(&pidfd).unwrap_or(DOWN);
                ProcessState::Ended(not_a_child(info, leaf), outcome)
            }
        };
    }
    let pidfd = loop {
        match info.open_pidfd() {
            Ok(Some(pidfd)) => break pidfd,
            Ok(None) => return ProcessState::Ended(LiveWatch::new(info, false, false, leaf), DOWN),
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
        true => at_gate(not_a_child(info, leaf), pidfd, false),
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

/// Watches the rest of the processes as soon as that is possible: there may be no free descriptors
/// for a while. Returns when none is left, or the service stops.
pub(crate) async fn retry(service: Arc<Service>, mut left: Vec<Arc<LiveWatch>>) {
    while !left.is_empty() {
        tokio::time::sleep(RETRY_INTERVAL).await;
        let service = Arc::clone(&service);
        let watch_all = move || {
            left.retain(|live| !watch(&service, live));
            left
        };
        // It may read or kill a cgroup. If it panics, the next start restores these watches.
        left = tokio::task::spawn_blocking(watch_all)
            .await
            .unwrap_or_default();
    }
}

/// Returns whether nothing is left to do.
fn watch(service: &Service, live: &Arc<LiveWatch>) -> bool {
    // It was cancelled, or has a record.
    if !service.registry.has(live.info.id) {
        return true;
    }
    match live.info.open_pidfd() {
        Ok(Some(pidfd)) => match service.arm(live, pidfd) {
            Ok(()) => true,
            Err(error) => error.code == Code::Stopping,
        },
        Ok(None) => {
            record_end(service, Arc::clone(live), DOWN);
            true
        }
        Err(_) => false,
    }
}

fn record_end(service: &Service, live: Arc<LiveWatch>, outcome: Outcome) {
    let exit = ProcessExit::new(live, outcome, None, now_ms());
    service.store.exit(exit);
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A shell that waits for the end of its input, with a name.
    fn child(name: &str, code: i32) -> (Child, WatchInfo) {
        let script = format!("printf {name} > /proc/$$/comm; echo; read line; exit {code}");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let named = std::io::Read::read(child.stdout.as_mut().expect("it is piped"), &mut [0]);
        assert_eq!(named.expect("it has its name"), 1);
        let pid = child.id() as i32;
        let stat = process::stat(pid).expect("it can be read");
        let info = WatchInfo {
            id: 1,
            uid: 0,
            client: String::new(),
            tag: String::new(),
            pid,
            start_ticks: stat.expect("it lives").start_ticks,
            inode: None,
            spawned: true,
            until: WatchFor::Exited,
            began_ms: 0,
            deadline_ms: None,
            grace_ms: 0,
            terminated_ms: None,
            leaf: None,
        };
        (child, info)
    }

    /// What [`at_gate`] says: while it runs, in time and late; as a zombie; and when it is reaped.
    fn states(name: &str, code: i32) -> [String; 4] {
        let (mut child, info) = child(name, code);
        let pidfd = process::pidfd_open(info.pid).expect("it lives");
        let state = |is_late| {
            let pidfd = pidfd.try_clone().expect("a descriptor is free");
            match at_gate(not_a_child(info.clone(), None), pidfd, is_late) {
                ProcessState::Running(..) => "running".into(),
                ProcessState::AtStartGate(..) => "at its start gate".into(),
                ProcessState::Ended(_, outcome) => format!("{outcome:?}"),
            }
        };
        let (in_time, late) = (state(false), state(true));
        drop(child.stdin.take());
        while !process::stat(info.pid)
            .expect("it can be read")
            .expect("it is not reaped")
            .has_ended()
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        let zombie = state(false);
        child.wait().expect("it is ours");
        [in_time, late, zombie, state(false)]
    }

    #[test]
    fn the_name_shows_whether_a_process_has_executed_its_program() {
        let down = format!("{DOWN:?}");
        let at_gate = states(process::START_GATE_NAME.to_str().expect("it is ASCII"), 125);
        assert_eq!(at_gate, ["at its start gate", "running", &down, &down]);
        let [in_time, late, zombie, reaped] = states("program", 7);
        assert_eq!([in_time, late, zombie], ["running"; 3]);
        // Since Linux 6.15, its status.
        let status = format!("{:?}", Outcome::Exited(7));
        assert!([&status, &down].contains(&&reaped), "{reaped}");
    }
}
