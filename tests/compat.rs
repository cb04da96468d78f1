//! The API of Shadow's `ChildPidWatcher`, and its behaviour.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::*;
use exitring::compat::ChildPidWatcher;

#[test]
fn a_callback_registered_before_the_exit_runs() {
    let watcher = ChildPidWatcher::new();
    let mut child = ControlledChild::spawn();
    watcher.register_pid(child.pid());
    let (sender, receiver) = mpsc::channel();
    let handle = watcher.register_callback(child.pid(), move |pid| sender.send(pid).unwrap());
    assert_ne!(handle, 0);
    assert!(receiver.recv_timeout(Duration::from_millis(30)).is_err());
    child.exit(1);
    assert_eq!(receive(&receiver), child.pid());
    assert_eq!(child.reap(), exited(1));
}

#[test]
fn a_callback_registered_after_the_exit_runs() {
    let watcher = ChildPidWatcher::default();
    let child = zombie(2);
    watcher.register_pid(child.pid());
    for _ in 0..2 {
        let (sender, receiver) = mpsc::channel();
        watcher.register_callback(child.pid(), move |pid| sender.send(pid).unwrap());
        assert_eq!(receive(&receiver), child.pid());
    }
    assert_eq!(child.reap(), exited(2));
}

#[test]
fn an_unregistered_callback_never_runs_and_the_others_do() {
    let watcher = ChildPidWatcher::new();
    let mut child = ControlledChild::spawn();
    watcher.register_pid(child.pid());
    let (sender, receiver) = mpsc::channel();
    let handles: Vec<_> = (0..3)
        .map(|index| {
            let sender = sender.clone();
            watcher.register_callback(child.pid(), move |_| sender.send(index).unwrap())
        })
        .collect();
    drop(sender);
    watcher.unregister_callback(child.pid(), handles[1]);
    watcher.unregister_callback(child.pid(), handles[1]);
    watcher.unregister_callback(child.pid(), 1_000_000);
    child.exit(0);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), [0, 2]);
    watcher.unregister_callback(child.pid(), handles[0]);
}

#[test]
fn callbacks_of_an_unregistered_pid_still_run() {
    let watcher = ChildPidWatcher::new();
    let mut child = ControlledChild::spawn();
    watcher.register_pid(child.pid());
    let (sender, receiver) = mpsc::channel();
    let cancelled = watcher.register_callback(child.pid(), {
        let sender = sender.clone();
        move |_| sender.send("cancelled").unwrap()
    });
    watcher.register_callback(child.pid(), move |_| sender.send("kept").unwrap());
    watcher.unregister_pid(child.pid());
    watcher.unregister_pid(child.pid());
    // Callbacks of unregistered pids can be cancelled.
    watcher.unregister_callback(child.pid(), cancelled);
    child.exit(0);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), ["kept"]);
}

#[test]
fn unregistering_a_callback_waits_for_its_end() {
    let watcher = ChildPidWatcher::new();
    let child = zombie(0);
    watcher.register_pid(child.pid());
    let ended = Arc::new(AtomicUsize::new(0));
    let (started, has_started) = mpsc::channel();
    let handle = watcher.register_callback(child.pid(), {
        let ended = ended.clone();
        move |_| {
            started.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(30));
            ended.store(1, Ordering::SeqCst);
        }
    });
    receive(&has_started);
    watcher.unregister_callback(child.pid(), handle);
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}

#[test]
fn fork_watchable_registers_its_child() {
    let watcher = ChildPidWatcher::new();
    // SAFETY: the child only exits.
    let pid = unsafe { watcher.fork_watchable(|| libc::_exit(33)) }.unwrap();
    let (sender, receiver) = mpsc::channel();
    watcher.register_callback(pid, move |pid| sender.send(pid).unwrap());
    assert_eq!(receive(&receiver), pid);
    assert_eq!(reap(pid), 33);
}

#[test]
fn no_callback_runs_after_the_drop() {
    let watcher = ChildPidWatcher::new();
    let mut child = ControlledChild::spawn();
    watcher.register_pid(child.pid());
    let (sender, receiver) = mpsc::channel();
    watcher.register_callback(child.pid(), move |pid| sender.send(pid).unwrap());
    drop(watcher);
    child.exit(0);
    // The callback is dropped and has not run.
    assert_eq!(
        receiver.recv_timeout(TEST_TIMEOUT),
        Err(mpsc::RecvTimeoutError::Disconnected)
    );
}

#[test]
#[should_panic(expected = "reaped")]
fn registering_a_pid_that_does_not_exist_panics() {
    let watcher = ChildPidWatcher::new();
    let child = zombie(0);
    let pid = child.pid();
    child.reap();
    watcher.register_pid(pid);
}

#[test]
#[should_panic(expected = "registered already")]
fn registering_twice_panics() {
    let watcher = ChildPidWatcher::new();
    let child = ControlledChild::spawn();
    watcher.register_pid(child.pid());
    watcher.register_pid(child.pid());
}

#[test]
#[should_panic(expected = "not registered")]
fn a_callback_for_an_unregistered_pid_panics() {
    let watcher = ChildPidWatcher::new();
    let child = ControlledChild::spawn();
    watcher.register_pid(child.pid());
    watcher.unregister_pid(child.pid());
    watcher.register_callback(child.pid(), |_| ());
}

#[test]
fn registering_twice_does_not_change_the_first_registration() {
    let watcher = ChildPidWatcher::new();
    let mut child = ControlledChild::spawn();
    let pid = child.pid();
    watcher.register_pid(pid);
    let (sender, receiver) = mpsc::channel();
    let handle = watcher.register_callback(pid, move |pid| sender.send(pid).unwrap());
    let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        watcher.register_pid(pid);
    }));
    assert!(again.is_err());
    assert_ne!(watcher.register_callback(pid, |_| ()), handle);
    child.exit(0);
    assert_eq!(receive(&receiver), pid);
    child.reap();
}
