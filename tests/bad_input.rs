//! Pids, descriptors and options that are refused, with an error that names cause and remedy.

mod common;

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::mpsc;

use common::*;
use exitring::{BuildError, Outcome, WatchError, Watcher};

#[test]
fn zero_and_negative_pids_are_refused() {
    let watcher = Watcher::new().unwrap();
    for raw in [0, -1, i32::MIN] {
        match watcher.watch(raw) {
            Err(WatchError::InvalidPid(invalid)) => assert_eq!(invalid.raw(), i64::from(raw)),
            other => panic!("{raw}: {other:?}"),
        }
    }
    assert!(matches!(
        watcher.watch(u32::MAX),
        Err(WatchError::InvalidPid(_))
    ));
    assert_eq!(watcher.stats().watched, 0);
}

#[test]
fn a_pid_that_does_not_exist_is_refused() {
    let watcher = Watcher::new().unwrap();
    let reaped = zombie(0);
    let pid = reaped.pid();
    reaped.reap();
    // The kernel assigns the pid again only after all other pids.
    let error = watcher.watch(pid).unwrap_err();
    assert!(matches!(error, WatchError::NoSuchProcess { pid: p } if p == pid));
    assert!(message(error).contains("reaped"));
    assert_eq!(watcher.stats().watched, 0);
}

#[test]
fn a_thread_id_is_refused() {
    let watcher = Watcher::new().unwrap();
    let (sender, receiver) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // SAFETY: a bare system call.
        sender.send(unsafe { libc::gettid() }).unwrap();
        let _ = stopped.recv();
    });
    let tid = receive(&receiver);
    let error = watcher.watch(tid).unwrap_err();
    assert!(matches!(error, WatchError::Thread { pid } if pid.as_raw() == tid));
    assert!(message(error).contains("thread"));
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn a_process_may_watch_itself_and_its_parent() {
    let watcher = Watcher::new().unwrap();
    let own = watcher.watch(std::process::id()).unwrap();
    let parent = watcher.watch(std::os::unix::process::parent_id()).unwrap();
    assert_eq!((own.exit(), parent.exit()), (None, None));
}

#[test]
fn a_descriptor_that_is_not_a_pidfd_is_refused() {
    let watcher = Watcher::new().unwrap();
    let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let (pipe, _writer) = pipe();
    for fd in [file, pipe.into()] {
        let error = watcher.watch_pidfd(fd).unwrap_err();
        assert!(matches!(error, WatchError::NotAPidfd), "{error:?}");
        assert!(message(error).contains("pidfd_open"));
    }
    assert_eq!(watcher.stats().watched, 0);
}

fn pidfd_open(pid: i32, flags: u32) -> std::io::Result<OwnedFd> {
    // SAFETY: a bare system call, whose result is a new descriptor or an error.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, flags);
        match fd < 0 {
            true => Err(std::io::Error::last_os_error()),
            false => Ok(OwnedFd::from_raw_fd(fd as i32)),
        }
    }
}

#[test]
fn a_process_is_watched_through_its_pidfd() {
    let watcher = Watcher::new().unwrap();
    let mut child = ControlledChild::spawn();
    let pidfd = pidfd_open(child.pid().as_raw(), libc::PIDFD_NONBLOCK).unwrap();
    let watch = watcher.watch_pidfd(pidfd).unwrap();
    assert_eq!(watch.pid(), child.pid());
    child.exit(77);
    assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(77));
    assert_eq!(child.reap(), exited(77));
}

#[test]
fn a_pidfd_of_a_thread_is_refused() {
    const PIDFD_THREAD: u32 = libc::O_EXCL as u32;
    // SAFETY: a bare system call.
    let tid = unsafe { libc::gettid() };
    // Linux before 6.9 has no pidfds of threads.
    let Ok(pidfd) = pidfd_open(tid, PIDFD_THREAD) else {
        return;
    };
    let watcher = Watcher::new().unwrap();
    let error = watcher.watch_pidfd(pidfd).unwrap_err();
    assert!(matches!(error, WatchError::ThreadPidfd), "{error:?}");
}

#[test]
fn a_pidfd_of_a_reaped_process_is_refused() {
    let watcher = Watcher::new().unwrap();
    let child = zombie(0);
    let pidfd = pidfd_open(child.pid().as_raw(), 0).unwrap();
    child.reap();
    let error = watcher.watch_pidfd(pidfd).unwrap_err();
    assert!(matches!(error, WatchError::Reaped), "{error:?}");
}

#[test]
fn options_out_of_range_are_refused() {
    for (builder, expected) in [
        (Watcher::builder().queue_capacity(0), "queue_capacity"),
        (
            Watcher::builder().queue_capacity(usize::MAX),
            "queue_capacity",
        ),
        (Watcher::builder().max_watches(0), "max_watches"),
        (Watcher::builder().max_watches(usize::MAX), "max_watches"),
        (Watcher::builder().workers(1_000_000), "workers"),
    ] {
        match builder.build() {
            Err(BuildError::Option { option, .. }) => assert_eq!(option, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}
