//! One watcher under a fault: what it does, and what is checked.

use std::io::Read;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{TIMEOUT, wait_until};
use crate::error::{Closed, ForkError, WaitError};
use crate::{
    BuildError, Child, Command, Outcome, Pid, SpawnError, Stdio, Unknown, Watch, WatchError,
    Watcher,
};

enum Handle {
    Own(Child),
    Other(Watch),
}

impl Deref for Handle {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        match self {
            Self::Own(child) => child,
            Self::Other(watch) => watch,
        }
    }
}

struct Watched {
    watch: Handle,
    code: i32,
    ran: Arc<AtomicU32>,
}

pub(super) fn exercise_watcher(case: &str, errno: i32, workers: usize, with_pidfds: bool) {
    let watcher = match Watcher::builder().workers(workers).build() {
        Ok(watcher) => watcher,
        Err(error) => return check_build_error(case, errno, &error),
    };
    let (reader, writer) = UnixStream::pair().expect("a socket pair can be had");
    let fork = |code| {
        // SAFETY: the child makes system calls only, on descriptors that are open.
        let pid = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::close(writer.as_raw_fd());
                let mut byte = 0_u8;
                libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1);
                libc::_exit(code);
            }
            pid
        };
        Pid::new(pid).expect("fork works")
    };
    let (mut watched, mut to_reap) = (Vec::new(), Vec::new());
    for code in 0..8 {
        let pid = fork(code);
        let watch = match code % 2 {
            0 => watcher.adopt_pid(pid).map(|child| {
                let _ = child.deadline(Duration::from_secs(1000), Duration::ZERO);
                Handle::Own(child)
            }),
            _ => {
                to_reap.push(pid);
                watcher.watch(pid).map(Handle::Other)
            }
        };
        match watch {
            Ok(watch) => watched.push(with_callback(watch, code)),
            Err(error) => {
                if code % 2 == 0 {
                    to_reap.push(pid);
                }
                check_watch_error(case, errno, with_pidfds, &error);
            }
        }
    }
    // SAFETY: the child does nothing.
    let forked = unsafe { watcher.fork_watchable(|| ()) };
    // SAFETY: the child ends at once.
    let vforked = unsafe { watcher.vfork_watchable(|| libc::_exit(0)) };
    for forked in [forked, vforked] {
        match forked {
            Ok(watch) => {
                to_reap.push(watch.pid());
                watched.push(with_callback(Handle::Other(watch), 0));
            }
            Err(ForkError::Fork(error)) => assert_eq!(error.raw_os_error(), Some(errno), "{case}"),
            Err(ForkError::Refused(error) | ForkError::Watch(error)) => {
                check_watch_error(case, errno, with_pidfds, &error);
            }
        }
    }
    let mut command = Command::new("true");
    match watcher.spawn(command.stdin(Stdio::null()).stdout(Stdio::piped())) {
        Ok(child) => watched.push(with_callback(Handle::Own(child), 0)),
        Err(SpawnError::Refused(error) | SpawnError::Watch(error)) => {
            check_watch_error(case, errno, with_pidfds, &error);
        }
        Err(error @ SpawnError::NoProcesses(_)) => assert_eq!(errno, libc::EAGAIN, "{error}"),
        Err(error) => check_cause(case, errno, &error.to_string()),
    }
    let exits = watcher.exits(16);
    match &exits {
        Ok(exits) => {
            for watched in &watched {
                let added = exits.add(&watched.watch, 0);
                assert!(added.is_ok() || is_dead(&watcher), "{case}: {added:?}");
            }
        }
        Err(error) => check_build_error(case, errno, error),
    }

    drop(writer);
    let mut byte = [0];
    assert_eq!((&reader).read(&mut byte).ok(), Some(0), "{case}");
    for watched in &watched {
        match watched.watch.wait_timeout(TIMEOUT) {
            Ok(Some(exit)) => {
                let outcome = exit.outcome();
                let without = Outcome::Unknown(Unknown::NoDescriptor(errno));
                let right = outcome == Outcome::Exited(watched.code) || outcome == without;
                assert!(right, "{case}: {outcome:?} is not {}", watched.code);
            }
            Ok(None) => panic!("{case}: an exit did not come: {:?}", watcher.stats()),
            Err(error) => {
                let died = WaitError::Closed(Closed::RingThreadDied);
                assert_eq!(error, died, "{case}");
                assert!(is_dead(&watcher), "{case}");
            }
        }
    }
    if let Ok(exits) = &exits {
        while let Ok(Some(_)) = exits.recv_timeout(TIMEOUT) {}
    }
    let ran = |watched: &Watched| watched.ran.load(Ordering::SeqCst);
    if !is_dead(&watcher) {
        wait_until(&format!("{case}: callbacks run"), || {
            is_dead(&watcher) || watched.iter().all(|watched| ran(watched) == 1)
        });
    }
    // A worker may reap a single child for which only a callback waits.
    if !is_dead(&watcher) {
        let code = 66;
        // SAFETY: the child ends after a pause.
        let pid = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::usleep(5000);
                libc::_exit(code);
            }
            pid
        };
        let child = watcher
            .adopt_pid(pid)
            .expect("adopting a child needs no resource");
        let alone = with_callback(Handle::Own(child), code);
        wait_until(&format!("{case}: the callback runs"), || {
            is_dead(&watcher) || ran(&alone) == 1
        });
    }
    // Once the plan has no failures left, everything works as before.
    if !is_dead(&watcher) {
        let code = 77;
        // SAFETY: the child ends at once.
        let pid = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::_exit(code);
            }
            pid
        };
        let child = watcher
            .adopt_pid(pid)
            .expect("adopting a child needs no resource");
        match child.wait_timeout(TIMEOUT) {
            Ok(exit) => assert_eq!(
                exit.expect("it comes").outcome(),
                Outcome::Exited(code),
                "{case}"
            ),
            Err(_) => assert!(is_dead(&watcher), "{case}"),
        }
    }
    drop(watcher);
    assert!(watched.iter().all(|watched| ran(watched) <= 1), "{case}");
    for pid in to_reap {
        // SAFETY: a null pointer; it is ours to reap, or gone.
        unsafe { libc::waitpid(pid.as_raw(), std::ptr::null_mut(), 0) };
    }
}

fn with_callback(watch: Handle, code: i32) -> Watched {
    let ran = Arc::new(AtomicU32::new(0));
    let runs = Arc::clone(&ran);
    let _ = watch.on_exit(move |_| {
        runs.fetch_add(1, Ordering::SeqCst);
    });
    Watched { watch, code, ran }
}

fn is_dead(watcher: &Watcher) -> bool {
    watcher.stats().death.is_some()
}

fn check_watch_error(case: &str, errno: i32, with_pidfds: bool, error: &WatchError) {
    if !with_pidfds && matches!(error, WatchError::PidfdDenied { .. }) {
        return;
    }
    if matches!(error, WatchError::Closed(Closed::RingThreadDied)) {
        return;
    }
    check_cause(case, errno, &error.to_string());
}

fn check_build_error(case: &str, errno: i32, error: &BuildError) {
    check_cause(case, errno, &error.to_string());
}

/// Checks that the message names what ran out, and the remedy.
fn check_cause(case: &str, errno: i32, message: &str) {
    let cause = match errno {
        libc::EMFILE => "RLIMIT_NOFILE",
        libc::ENFILE => "fs.file-max",
        libc::ENOMEM => "memory",
        libc::EAGAIN | libc::EBUSY => "",
        libc::EPERM | libc::ENOSYS => "denied",
        _ => "failed",
    };
    assert!(message.contains(cause), "{case}: {message}");
}
