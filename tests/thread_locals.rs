//! Handles in thread-locals, which are dropped while their thread ends.

mod common;

use std::any::Any;
use std::cell::RefCell;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use common::*;
use exitring::compat::ChildPidWatcher;
use exitring::{Cancel, Watcher};

thread_local! {
    /// Dropped when its thread ends. The thread-locals of other crates may be destroyed by then.
    static KEPT: RefCell<Vec<Box<dyn std::any::Any>>> = const { RefCell::new(Vec::new()) };
}

/// Ends a thread that keeps `value` in a thread-local.
fn end_thread_with(value: impl Any + Send) {
    thread::spawn(move || KEPT.with_borrow_mut(|kept| kept.push(Box::new(value))))
        .join()
        .expect("no panic, no abort");
}

#[test]
fn handles_may_be_dropped_cancelled_and_waited_for_while_thread_locals_are_destroyed() {
    let watcher = Arc::new(Watcher::new().unwrap());
    end_thread_with(Watcher::new().unwrap());
    end_thread_with(ChildPidWatcher::new());
    end_thread_with(watcher.watch(std::process::id()).unwrap());

    let drops = Arc::new(Mutex::new(0));
    let (counter, shared) = (Arc::clone(&drops), Arc::clone(&watcher));
    end_thread_with(OnDrop(move || {
        let child = spawn_true(&shared);
        child.wait().expect("it ends");
        let exits = shared.exits(1).expect("there is a descriptor");
        exits.add(&child, 7).expect("there is capacity");
        assert!(exits.recv().expect("the exit is delivered").is_some());
        let running = spawn_sleep(&shared);
        let id = running.on_exit(|_| ()).expect("a callback is accepted");
        assert_eq!(running.cancel(id), Cancel::Cancelled);
        drop(Watcher::new().expect("a watcher can be built"));
        *counter.lock().unwrap() += 1;
    }));
    assert_eq!(*drops.lock().unwrap(), 1);
}

#[test]
fn the_thread_locals_of_a_worker_may_hold_handles_whose_drop_waits_for_it() {
    // The worker keeps a watch of its own watcher and another watcher, and drops them when it ends.
    let watcher = Watcher::new().unwrap();
    let other = Arc::new(Watcher::new().unwrap());
    let child = spawn_true(&watcher);
    let (sender, ran) = mpsc::channel();
    let kept_watcher = Arc::clone(&other);
    let kept_watch = watcher.watch(std::process::id()).unwrap();
    let callback = child.on_exit(move |_| {
        KEPT.with_borrow_mut(|kept| {
            kept.push(Box::new(kept_watcher));
            kept.push(Box::new(kept_watch));
        });
        sender.send(()).unwrap();
    });
    callback.unwrap();
    receive(&ran);
    drop(other);
    let (sender, dropped) = mpsc::channel();
    thread::spawn(move || {
        drop(watcher);
        sender.send(()).unwrap();
    });
    receive(&dropped);
}
