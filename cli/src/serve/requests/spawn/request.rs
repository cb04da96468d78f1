//! The request, from the fork to the answer.

use std::io;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use exitring_protocol::{CgroupLimits, Code, Error, Spawn, WatchFor, Watched};

use super::command::command;
use super::messages::Step;
use super::start_gate::{StartGate, cannot_start};
use crate::serve::cgroups::Leaf;
use crate::serve::requests::pending_reply::PendingReply;
use crate::serve::requests::tag::check_tag;
use crate::serve::service::{Peer, Service, exhausted, panicked, stopping};
use crate::serve::sys::clock::{monotonic_ms, now_ms};
use crate::serve::sys::process;
use crate::serve::watches::{LiveWatch, WatchInfo};

/// How long the answer waits for the end of a child that did not execute its program.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);
/// When watching a child is retried.
const RETRY_AFTER: Duration = Duration::from_millis(10);
/// The time between SIGTERM and SIGKILL, unless the request sets it.
const GRACE_MS: u64 = 5_000;

pub(crate) async fn spawn(
    service: &Arc<Service>,
    peer: Peer,
    client: String,
    spawn: Spawn,
    pending_reply: &PendingReply,
) -> Result<Watched, Error> {
    service.store.check()?;
    check_tag(&spawn.tag)?;
    let permit = service.registry.acquire(peer.uid)?;
    let quota = service.spawn_quotas.semaphore(peer.uid);
    let _user_permit = quota.acquire().await.map_err(|_| panicked())?;
    let _spawn_permit = service
        .spawn_permits
        .acquire()
        .await
        .map_err(|_| panicked())?;
    // After the waits for other starts, so that the end of the service does not wait for them.
    let _request = service.begin_request().await?;

    let (mut gate, child_end) = StartGate::new().map_err(exhausted)?;
    let command = command(service, peer, &spawn, permit.id, child_end)?;
    let program = spawn.argv[0].clone();
    let leaf = match spawn.cgroup {
        Some(limits) => Some(acquire_leaf(service, peer, limits).await?),
        None => None,
    };
    let child = match service.spawner.spawn(command).await.ok_or_else(stopping)? {
        Ok(child) => child,
        Err(error) => return Err(cannot_start(&program, &error, Step::Program)),
    };
    if let Err(error) = gate.wait_ready(&program).await {
        kill(child).await;
        return Err(error);
    }
    // Only the service reaps the child, so this is its pid.
    let pid = child.id() as i32;
    let leaf = match leaf {
        Some(leaf) => match enter(leaf, pid).await {
            Ok(leaf) => Some(leaf),
            Err(error) => {
                kill(child).await;
                return Err(error);
            }
        },
        None => None,
    };
    let identity = process::pidfd_open(pid).and_then(|pidfd| {
        // The child waits at its start gate, so it exists.
        let stat = process::stat(pid)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        Ok((pidfd, stat.start_ticks))
    });
    let prepared = identity.map_err(exhausted).map(|(pidfd, start_ticks)| {
        let info = WatchInfo {
            id: permit.id,
            uid: peer.uid,
            client,
            tag: spawn.tag,
            pid,
            start_ticks,
            inode: process::inode(&pidfd),
            spawned: true,
            until: WatchFor::Exited,
            began_ms: now_ms(),
            deadline_ms: spawn
                .timeout_ms
                .map(|ms| monotonic_ms().saturating_add(ms).min(i64::MAX as u64)),
            grace_ms: spawn.grace_ms.unwrap_or(GRACE_MS).min(i64::MAX as u64),
            terminated_ms: None,
            leaf: leaf.as_ref().map(|leaf| leaf.id().clone()),
        };
        (info, pidfd)
    });
    let stored = match prepared {
        Ok((info, pidfd)) => {
            let begun = service.store.begin(info.clone()).await;
            begun.map(|()| (info, pidfd))
        }
        Err(error) => Err(error),
    };
    let (info, pidfd) = match stored {
        Ok(stored) => stored,
        Err(error) => {
            kill(child).await;
            return Err(error);
        }
    };
    let id = info.id;
    let live = LiveWatch::new(info, true, false, leaf);
    permit.register(Arc::clone(&live));
    gate.release().await;
    if let Err(error) = gate.wait_executed(&program).await {
        // The program never ran.
        kill(child).await;
        service.discard_watch(id).await;
        return Err(error);
    }
    service.metrics.spawned.inc();
    service.deadlines.add(&live);
    pending_reply.begin();
    // The program runs, so it has to be watched. If that fails for lack of a resource, it is
    // retried.
    let mut pidfd = Some(pidfd);
    loop {
        let fd = match pidfd.take() {
            Some(fd) => Ok(fd),
            None => process::pidfd_open(pid).map_err(exhausted),
        };
        let armed = match fd {
            Ok(fd) => {
                let (service, live) = (Arc::clone(service), Arc::clone(&live));
                let arm = tokio::task::spawn_blocking(move || service.arm(&live, fd));
                arm.await.map_err(|_| panicked())?
            }
            Err(error) => Err(error),
        };
        match armed {
            Ok(()) => return Ok(Watched { watch: id, pid }),
            // The watch is stored, and the next start of the service finds it.
            Err(error) if error.code == Code::Stopping => return Err(error),
            Err(error) => {
                tracing::warn!(watch = id, %error, "a child cannot be watched yet; retrying");
            }
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Takes a cgroup for the child. On another thread: groups are made.
async fn acquire_leaf(
    service: &Arc<Service>,
    peer: Peer,
    limits: CgroupLimits,
) -> Result<Leaf, Error> {
    let service = Arc::clone(service);
    let acquire = move || service.cgroups.acquire(peer.uid, &limits);
    let acquired = tokio::task::spawn_blocking(acquire).await;
    acquired.map_err(|_| panicked())?
}

/// Moves the child to its cgroup while it waits at its start gate. So its program starts there.
async fn enter(leaf: Leaf, pid: i32) -> Result<Leaf, Error> {
    let enter = move || leaf.enter(pid).map(|()| leaf);
    let entered = tokio::task::spawn_blocking(enter).await;
    entered.map_err(|_| panicked())?.map_err(|error| {
        let remedy = match error.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => {
                "; the service needs write access to cgroup.procs there, and in the group above both it and the service"
            }
            Some(libc::ESRCH) => "; it was killed before",
            _ => "",
        };
        let message = format!("the child cannot enter its cgroup: {error}{remedy}");
        Error::new(Code::CannotStart, message)
    })
}

/// Kills and reaps a child. A child that is blocked on a file system which does not respond dies
/// only later; the answer does not wait long for that.
async fn kill(mut child: Child) {
    let reaped = tokio::spawn(async move {
        // The child is not reaped, so its pid is still its own.
        let _ = child.kill();
        while let Ok(None) = child.try_wait() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let _ = tokio::time::timeout(KILL_TIMEOUT, reaped).await;
}
