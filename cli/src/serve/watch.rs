//! `watch`: what somebody else reaps.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use exitring_protocol::{Code, Error, Watch, Watched};

use super::clock::now_ms;
use super::live::{Birth, Live};
use super::process;
use super::service::{Service, Who, exhausted};
use super::subscription::Answering;

/// Bytes in a tag, or a client's name.
pub(crate) const TAG_MAX: usize = 256;

pub(crate) async fn watch(
    service: &Arc<Service>,
    who: Who,
    client: String,
    watch: Watch,
    passed: Option<OwnedFd>,
    answering: &Answering,
) -> Result<Watched, Error> {
    service.store.check()?;
    check_tag(&watch.tag)?;
    let place = service.registry.reserve(who.uid)?;
    let found = tokio::task::spawn_blocking(move || identify(watch.pid, passed, who));
    let (pidfd, pid, start_ticks) = found.await.map_err(|_| panicked())??;
    let birth = Birth {
        id: place.id,
        uid: who.uid,
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
    };
    let answer = Watched {
        watch: birth.id,
        pid,
    };
    // From here on it survives us.
    service.store.begin(birth.clone()).await?;
    let live = Live::new(birth, false, false);
    place.fill(Arc::clone(&live));
    answering.begin();
    let armed = {
        let (service, live) = (Arc::clone(service), Arc::clone(&live));
        tokio::task::spawn_blocking(move || service.arm(&live, pidfd)).await
    };
    if let Err(error) = armed.map_err(|_| panicked()).and_then(|armed| armed) {
        forget(service, answer.watch).await;
        return Err(error);
    }
    Ok(answer)
}

/// Takes back what was written down, after a failure.
pub(crate) async fn forget(service: &Service, watch: u64) {
    if let Err(error) = service.store.forget(watch).await {
        // A restart will find that it is gone, and say so in a record.
        tracing::warn!(watch, %error, "a watch that came to nothing could not be struck out");
    }
    if let Some(live) = service.registry.remove(watch) {
        service.deadlines.remove(watch);
        live.let_go();
    }
}

pub(crate) fn check_tag(tag: &str) -> Result<(), Error> {
    match tag.len() <= TAG_MAX {
        true => Ok(()),
        false => Err(Error::new(
            Code::OutOfRange,
            format!("the tag has {} bytes, and may have {TAG_MAX}", tag.len()),
        )),
    }
}

/// Pidfd, pid and start of a process that this user may watch.
fn identify(
    pid: Option<i32>,
    passed: Option<OwnedFd>,
    who: Who,
) -> Result<(OwnedFd, i32, u64), Error> {
    let (pidfd, pid) = match (pid, passed) {
        (Some(pid), None) => (open(pid)?, pid),
        (None, Some(pidfd)) => {
            let no_pidfd = |_| {
                let message = "the descriptor is no pidfd; get one from pidfd_open or clone3";
                Error::new(Code::NotAPidfd, message)
            };
            let pid = process::pid_of(&pidfd).map_err(no_pidfd)?;
            let pid = pid.ok_or_else(|| no_such_process("behind the pidfd"))?;
            (pidfd, pid)
        }
        (None, None) => {
            let message = "neither a pid, nor a pidfd that comes with the line (SCM_RIGHTS)";
            return Err(Error::new(Code::NotAPidfd, message));
        }
        (Some(_), Some(_)) => {
            let message = "both a pid and a pidfd; one of them is enough";
            return Err(Error::new(Code::BadRequest, message));
        }
    };
    let stat = process::stat(pid);
    let users = process::users(pid);
    // Not reaped even now: what was read is of this process.
    let (Some(stat), Some(users), Some(_)) = (stat, users, process::pid_of(&pidfd).ok().flatten())
    else {
        return Err(no_such_process(format!("with the pid {pid}")));
    };
    if who.uid != 0 && !users.contains(&who.uid) {
        let message = format!("process {pid} is another user's; only root may watch it");
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
    debug_assert!(process::pid_of(pidfd.as_fd()).is_ok());
    Ok(pidfd)
}

fn no_such_process(which: impl std::fmt::Display) -> Error {
    let message = format!("there is no process {which}: it was reaped, or never lived");
    Error::new(Code::NoSuchProcess, message)
}

pub(crate) fn panicked() -> Error {
    Error::new(
        Code::Failed,
        "a thread of the service panicked; its log says why",
    )
}
