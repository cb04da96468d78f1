//! Waiting for an exit, and what it says.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use exitring::{Closed, Outcome, Unknown, WaitError, Watcher};

#[test]
fn wait_returns_the_exit_of_a_child() {
    let watcher = Watcher::new().unwrap();
    let mut child = Obedient::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    assert_eq!(watch.wait_timeout(Duration::from_millis(20)), Ok(None));
    let before = Instant::now();
    child.exit(200);
    let exit = watch.wait().unwrap();
    assert_eq!(exit.outcome(), Outcome::Exited(200));
    assert!(!exit.success());
    assert!(exit.seen_at() >= before && exit.seen_at() <= Instant::now());
    assert_eq!(watch.wait_timeout(Duration::ZERO), Ok(Some(exit)));
    assert_eq!(child.reap(), exited(200));
}

#[test]
fn many_threads_may_wait_for_one_process() {
    let watcher = Watcher::new().unwrap();
    let mut child = Obedient::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..8).map(|_| scope.spawn(|| watch.wait())).collect();
        child.exit(5);
        for waiter in waiters {
            let exit = waiter.join().unwrap().unwrap();
            assert_eq!(exit.outcome(), Outcome::Exited(5));
        }
    });
}

#[test]
fn a_signal_is_told_as_such() {
    let watcher = Watcher::new().unwrap();
    let mut child = Obedient::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    child.kill();
    let expected = Outcome::Signaled {
        signal: libc::SIGKILL,
        core_dumped: false,
    };
    assert_eq!(watch.wait().unwrap().outcome(), expected);
}

#[test]
fn usage_is_told_for_a_child_that_worked() {
    let watcher = Watcher::new().unwrap();
    let mut child = std::process::Command::new("sh")
        .args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"])
        .spawn()
        .unwrap();
    let exit = watcher.watch(child.id()).unwrap().wait().unwrap();
    let usage = exit.usage().expect("a child's usage is told");
    assert!(
        usage.user() + usage.system() > Duration::from_millis(1),
        "{usage:?}"
    );
    assert!(usage.max_rss_bytes() > 100 * 1024, "{usage:?}");
    child.wait().unwrap();
}

#[test]
fn stopping_and_continuing_is_no_exit() {
    let watcher = Watcher::new().unwrap();
    let mut child = Obedient::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    for signal in [libc::SIGSTOP, libc::SIGCONT] {
        // SAFETY: no pointers; the pid is our child's.
        assert_eq!(unsafe { libc::kill(child.pid().as_raw(), signal) }, 0);
        assert_eq!(watch.wait_timeout(Duration::from_millis(20)), Ok(None));
    }
    child.exit(0);
    assert!(watch.wait().unwrap().success());
}

#[test]
fn a_process_that_is_no_childs_exit_is_seen_and_its_status_unknown() {
    let watcher = Watcher::new().unwrap();
    // A grandchild that stays its parent's zombie: sh forks it and then is exec'ed into
    // something that never reaps.
    let mut parent = std::process::Command::new("sh")
        .args(["-c", "sleep 0.2 & echo $!; exec sleep 1000"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(parent.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    let pid: i32 = line.trim().parse().unwrap();
    let watch = watcher.watch(pid).unwrap();
    let exit = watch.wait().unwrap();
    assert_eq!(exit.outcome(), Outcome::Unknown(Unknown::NotAChild));
    assert_eq!((exit.status(), exit.usage()), (None, None));
    assert!(is_zombie(exit.pid()));
    parent.kill().unwrap();
    parent.wait().unwrap();
}

#[test]
fn what_another_wait_reaps_first_is_told_or_said_to_be_reaped() {
    let watcher = Watcher::new().unwrap();
    for code in 0..100 {
        let mut child = Obedient::spawn();
        let watch = watcher.watch(child.pid()).unwrap();
        child.exit(code);
        // Races with the watcher's look.
        assert_eq!(child.reap(), exited(code));
        let outcome = watch.wait().unwrap().outcome();
        assert!(
            outcome == Outcome::Exited(code)
                || outcome == Outcome::Unknown(Unknown::ReapedElsewhere),
            "{outcome:?}"
        );
    }
}

#[test]
fn dropping_the_watcher_frees_who_waits() {
    let child = Obedient::spawn();
    let watcher = Watcher::new().unwrap();
    let watch = Arc::new(watcher.watch(child.pid()).unwrap());
    let waiter = std::thread::spawn({
        let watch = watch.clone();
        move || watch.wait()
    });
    std::thread::sleep(Duration::from_millis(20));
    drop(watcher);
    let closed = Err(WaitError::Closed(Closed::Dropped));
    assert_eq!(waiter.join().unwrap(), closed);
    assert_eq!(watch.wait(), closed);
    assert_eq!(watch.on_exit(|_| ()), Err(Closed::Dropped));
}

#[test]
fn an_exit_that_was_seen_outlives_the_watcher() {
    let child = zombie(6);
    let watcher = Watcher::new().unwrap();
    let watch = watcher.watch(child.pid()).unwrap();
    let exit = watch.wait().unwrap();
    drop(watcher);
    assert_eq!(watch.exit(), Some(exit.clone()));
    assert_eq!(watch.wait(), Ok(exit));
}

/// The end of a traced child is its tracer's to see first; until then its parent is told "not yet"
/// though the pidfd says that it ended. The watch must neither give up nor spin.
#[test]
fn a_traced_childs_exit_is_told_when_the_tracer_has_seen_it() {
    use std::io::{Read, Write};
    use std::os::unix::process::CommandExt;
    let watcher = Watcher::new().unwrap();
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "read line; exit 9"])
        .stdin(std::process::Stdio::piped());
    // SAFETY: prctl is a bare system call. It fails where there is no Yama, and need not work there.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY);
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    let pid = child.id() as i32;
    let (mut from_tracer, to_us) = std::io::pipe().unwrap();
    let (from_us, mut to_tracer) = std::io::pipe().unwrap();
    // SAFETY: the child only makes system calls.
    let tracer = unsafe { libc::fork() };
    if tracer == 0 {
        // SAFETY: system calls on live arguments, then the end.
        unsafe {
            drop(to_tracer);
            let seized = libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) == 0;
            let byte = [u8::from(seized)];
            libc::write(
                std::os::fd::AsRawFd::as_raw_fd(&to_us),
                byte.as_ptr().cast(),
                1,
            );
            let mut go = [0];
            libc::read(
                std::os::fd::AsRawFd::as_raw_fd(&from_us),
                go.as_mut_ptr().cast(),
                1,
            );
            libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL);
            libc::_exit(0);
        }
    }
    let mut seized = [0];
    from_tracer.read_exact(&mut seized).unwrap();
    assert_eq!(seized, [1], "the tracer could not attach");

    let watch = watcher.watch(pid).unwrap();
    // Not by closing: the tracer has a copy of the pipe.
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    until("the child is a zombie", || is_zombie(watch.pid()));
    let enters = watcher.stats().enters;
    assert_eq!(watch.wait_timeout(Duration::from_millis(200)), Ok(None));
    let spins = watcher.stats().enters - enters;
    assert!(spins < 200, "{spins} enters in 200 ms");
    to_tracer.write_all(&[1]).unwrap();
    assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(9));
    assert_eq!(child.wait().unwrap(), exited(9));
    // SAFETY: the tracer is our child; no status is wanted.
    unsafe { libc::waitpid(tracer, std::ptr::null_mut(), 0) };
}
