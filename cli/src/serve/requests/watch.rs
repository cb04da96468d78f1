//! `watch`: watches a process that another process reaps.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use exitring_protocol::{Code, Error, Watch, Watched};

use super::pending_reply::PendingReply;
use super::tag::check_tag;
use crate::serve::service::{Peer, Service, exhausted, panicked};
use crate::serve::sys::clock::now_ms;
use crate::serve::sys::process;
use crate::serve::watches::{LiveWatch, WatchInfo};

pub(crate) async fn watch(
    service: &Arc<Service>,
    peer: Peer,
    client: String,
    watch: Watch,
    passed: Option<OwnedFd>,
    pending_reply: &PendingReply,
) -> Result<Watched, Error> {
    service.store.check()?;
    check_tag(&watch.tag)?;
    let permit = service.registry.acquire(peer.uid)?;
    let found = tokio::task::spawn_blocking(move || identify(watch.pid, passed, peer));
    let (pidfd, pid, start_ticks) = found.await.map_err(|_| panicked())??;
    let info = WatchInfo {
        id: permit.id,
        uid: peer.uid,
        client,
        tag: watch.tag,
        pid,
        start_ticks,
        inode: process::inode(&pidfd),
        spawned: false,
        until: watch.until,
        began_ms: now_ms(),
        deadline_ms: None,
        grace_ms: 0,
        terminated_ms: None,
        leaf: None,
    };
    let answer = Watched {
        watch: info.id,
        pid,
    };
    // From here on the watch survives the service.
    service.store.begin(info.clone()).await?;
    let live = LiveWatch::new(info, false, false, None);
    permit.register(Arc::clone(&live));
    pending_reply.begin();
    let armed = {
        let (service, live) = (Arc::clone(service), Arc::clone(&live));
        tokio::task::spawn_blocking(move || service.arm(&live, pidfd)).await
    };
    if let Err(error) = armed.map_err(|_| panicked()).and_then(|armed| armed) {
        service.discard_watch(answer.watch).await;
        return Err(error);
    }
    Ok(answer)
}

/// Finds a process that this user may watch. Returns its pidfd, pid and start time.
fn identify(
    pid: Option<i32>,
    passed: Option<OwnedFd>,
    peer: Peer,
) -> Result<(OwnedFd, i32, u64), Error> {
    let (pidfd, pid) = match (pid, passed) {
        (Some(pid), None) => (open(pid)?, pid),
        (None, Some(pidfd)) => {
            let no_pidfd = |error: io::Error| match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => exhausted(error),
                _ => {
                    let message = "the descriptor is no pidfd; get one from pidfd_open or clone3";
                    Error::new(Code::NotAPidfd, message)
                }
            };
            let pid = process::pid_of(&pidfd).map_err(no_pidfd)?;
            let pid = pid.ok_or_else(|| no_such_process("behind the pidfd"))?;
            (pidfd, pid)
        }
        (None, None) => {
            let message = "the request has no pid, and no pidfd came with it; send one of them (a pidfd by SCM_RIGHTS)";
            return Err(Error::new(Code::NotAPidfd, message));
        }
        (Some(_), Some(_)) => {
            let message = "the request has both a pid and a pidfd; send only one of them";
            return Err(Error::new(Code::BadRequest, message));
        }
    };
    let stat = process::stat(pid).map_err(exhausted)?;
    let users = process::users(pid).map_err(exhausted)?;
    let still = process::pid_of(&pidfd).map_err(exhausted)?;
    // If the process is still not reaped, all of the above was read from it.
    let (Some(stat), Some(users), Some(_)) = (stat, users, still) else {
        return Err(no_such_process(format!("with the pid {pid}")));
    };
    if peer.uid != 0 && !users.contains(&peer.uid) {
        let message = format!("process {pid} belongs to another user; only root may watch it");
        return Err(Error::new(Code::Denied, message));
    }
    Ok((pidfd, pid, stat.start_ticks))
}

fn open(pid: i32) -> Result<OwnedFd, Error> {
    let pidfd = process::pidfd_open(pid).map_err(|error| match error.raw_os_error() {
        Some(libc::ESRCH) => no_such_process(format!("with the pid {pid}")),
        Some(libc::EINVAL | libc::ENOENT) => Error::new(
            Code::NoSuchProcess,
            format!("{pid} is the id of a thread, not of a process"),
        ),
        Some(libc::EPERM | libc::ENOSYS) => {
            Error::new(Code::Unsupported, "the service may not open pidfds")
        }
        _ => exhausted(error),
    })?;
    Ok(pidfd)
}

fn no_such_process(which: impl std::fmt::Display) -> Error {
    let message = format!("there is no process {which}: it was reaped, or never existed");
    Error::new(Code::NoSuchProcess, message)
}
