//! Callbacks when their watch or watcher is dropped, also by a callback.

mod common;

use std::sync::{Arc, Barrier, mpsc};

use common::*;
use exitring::{Cancel, Closed, Outcome, Watcher};

#[test]
fn callbacks_run_after_their_watch_is_dropped() {
    each_worker_count(|watcher| {
        let mut child = ControlledChild::spawn();
        let watch = watcher.watch(child.pid()).unwrap();
        let receiver = outcome_receiver(&watch);
        drop(watch);
        child.exit(3);
        assert_eq!(receive(&receiver), Outcome::Exited(3));
        until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
    });
}

#[test]
fn a_watch_dropped_without_callbacks_is_removed() {
    each_worker_count(|watcher| {
        let child = ControlledChild::spawn();
        let watch = watcher.watch(child.pid()).unwrap();
        until_stats(&watcher, "it is armed", |stats| stats.armed == 1);
        drop(watch);
        let stats = until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
        assert_eq!((stats.armed, stats.delivered), (0, 0));
        // A cancelled callback does not keep the watch.
        let watch = watcher.watch(child.pid()).unwrap();
        let id = watch.on_exit(|_| ()).unwrap();
        assert_eq!(watch.cancel(id), Cancel::Cancelled);
        drop(watch);
        until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
    });
}

#[test]
fn a_callback_may_drop_the_watcher() {
    each_worker_count(|watcher| {
        let mut child = ControlledChild::spawn();
        let watch = watcher.watch(child.pid()).unwrap();
        let (sender, receiver) = mpsc::channel();
        watch
            .on_exit(move |_| {
                drop(watcher);
                sender.send(()).unwrap();
            })
            .unwrap();
        let never = watch.on_exit(|_| panic!("runs after the drop")).unwrap();
        child.exit(0);
        receive(&receiver);
        until("the second callback is dropped", || {
            watch.cancel(never) == Cancel::NotPending
        });
        assert_eq!(watch.on_exit(|_| ()), Err(Closed::Dropped));
    });
}

/// The drop waits for the other callbacks, one of which waits for the callback that drops.
#[test]
fn a_callback_that_drops_the_watcher_and_one_that_cancels_it_both_return() {
    for _ in 0..50 {
        let watcher = Watcher::builder().workers(2).build().unwrap();
        let children = [zombie(0), zombie(0)];
        let first = Arc::new(watcher.watch(children[0].pid()).unwrap());
        let second = watcher.watch(children[1].pid()).unwrap();
        let both_run = Arc::new(Barrier::new(2));
        let (id_sender, id) = mpsc::channel();
        let (sender, receiver) = mpsc::channel();
        second
            .on_exit({
                let (first, both_run, sender) = (first.clone(), both_run.clone(), sender.clone());
                move |_| {
                    both_run.wait();
                    let _ = first.cancel(receive(&id));
                    sender.send(()).unwrap();
                }
            })
            .unwrap();
        let dropper = first
            .on_exit(move |_| {
                both_run.wait();
                drop(watcher);
                sender.send(()).unwrap();
            })
            .unwrap();
        id_sender.send(dropper).unwrap();
        receive(&receiver);
        receive(&receiver);
    }
}

/// The captures of a callback that never runs cancel the callback that drops the watcher.
#[test]
fn a_callback_that_drops_the_watcher_and_captures_that_cancel_it_both_return() {
    each_worker_count(|watcher| {
        let (lives, mut ends) = (ControlledChild::spawn(), ControlledChild::spawn());
        let never = watcher.watch(lives.pid()).unwrap();
        let watch = Arc::new(watcher.watch(ends.pid()).unwrap());
        let (id_sender, id) = mpsc::channel();
        let (sender, receiver) = mpsc::channel();
        let guard = OnDrop({
            let (watch, sender) = (watch.clone(), sender.clone());
            move || {
                let _ = watch.cancel(receive(&id));
                sender.send(()).unwrap();
            }
        });
        never.on_exit(move |_| drop(guard)).unwrap();
        let dropper = watch
            .on_exit(move |_| {
                drop(watcher);
                sender.send(()).unwrap();
            })
            .unwrap();
        id_sender.send(dropper).unwrap();
        ends.exit(0);
        receive(&receiver);
        receive(&receiver);
    });
}
