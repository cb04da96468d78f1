//! Cancelling callbacks: what runs no more, and what a cancel waits for.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

use common::*;
use exitring::{Cancel, Watch, Watcher};

#[test]
fn a_cancelled_callback_never_runs_and_the_others_do() {
    each_worker_count(|watcher| {
        let mut child = ControlledChild::spawn();
        let watch = watcher.watch(child.pid()).unwrap();
        let (sender, receiver) = mpsc::channel();
        let ids: Vec<_> = (0..3)
            .map(|index| {
                let sender = sender.clone();
                watch.on_exit(move |_| sender.send(index).unwrap()).unwrap()
            })
            .collect();
        drop(sender);
        assert_eq!(watch.cancel(ids[1]), Cancel::Cancelled);
        assert_eq!(watch.cancel(ids[1]), Cancel::NotPending);
        child.exit(0);
        // The channel ends when every callback has run or is cancelled.
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(watch.cancel(ids[0]), Cancel::NotPending);
    });
}

#[test]
fn a_callback_id_cancels_nothing_on_another_watch() {
    let watcher = Watcher::new().unwrap();
    let mut child = ControlledChild::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    let other = watcher.watch(child.pid()).unwrap();
    let (sender, receiver) = mpsc::channel();
    let id = watch.on_exit(move |_| sender.send(()).unwrap()).unwrap();
    assert_eq!(other.cancel(id), Cancel::NotPending);
    child.exit(0);
    receive(&receiver);
}

#[test]
fn cancel_waits_for_the_end_of_a_running_callback() {
    each_worker_count(|watcher| {
        let child = zombie(0);
        let watch = watcher.watch(child.pid()).unwrap();
        let (started, has_started) = mpsc::channel();
        let ended = Arc::new(AtomicUsize::new(0));
        let id = watch
            .on_exit({
                let ended = ended.clone();
                move |_| {
                    started.send(()).unwrap();
                    std::thread::sleep(Duration::from_millis(50));
                    ended.store(1, Ordering::SeqCst);
                }
            })
            .unwrap();
        receive(&has_started);
        assert_eq!(watch.cancel(id), Cancel::NotPending);
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    });
}

/// In a race with the callback, its captures are dropped when cancel returns.
#[test]
fn after_cancel_the_captures_of_the_callback_are_dropped() {
    each_worker_count(|watcher| {
        for _ in 0..200 {
            let mut child = ControlledChild::spawn();
            let watch = watcher.watch(child.pid()).unwrap();
            let captured = Arc::new(());
            let id = watch
                .on_exit({
                    let captured = captured.clone();
                    move |_| {
                        std::thread::yield_now();
                        drop(captured);
                    }
                })
                .unwrap();
            child.exit(0);
            // The exit is probably being delivered at this moment.
            let _ = watch.cancel(id);
            assert_eq!(Arc::strong_count(&captured), 1);
        }
    });
}

#[test]
fn a_callback_that_cancels_itself_gets_running_at_once() {
    each_worker_count(|watcher| {
        let mut child = ControlledChild::spawn();
        let watch = Arc::new(watcher.watch(child.pid()).unwrap());
        let (id_sender, own_id) = mpsc::channel();
        let (sender, receiver) = mpsc::channel();
        let id = watch
            .on_exit({
                let watch = watch.clone();
                move |_| sender.send(watch.cancel(receive(&own_id))).unwrap()
            })
            .unwrap();
        id_sender.send(id).unwrap();
        child.exit(0);
        assert_eq!(receive(&receiver), Cancel::Running);
    });
}

#[test]
fn two_callbacks_that_cancel_each_other_both_return() {
    let watcher = Watcher::builder().workers(2).build().unwrap();
    for _ in 0..50 {
        let children = [zombie(0), zombie(0)];
        let watches: Vec<Arc<Watch>> = children
            .iter()
            .map(|child| Arc::new(watcher.watch(child.pid()).unwrap()))
            .collect();
        let both_run = Arc::new(Barrier::new(2));
        let (sender, receiver) = mpsc::channel();
        let add = |watch: &Watch, other: &Arc<Watch>| {
            let (id_sender, other_id) = mpsc::channel();
            let (other, both_run, sender) = (other.clone(), both_run.clone(), sender.clone());
            let id = watch
                .on_exit(move |_| {
                    both_run.wait();
                    sender.send(other.cancel(receive(&other_id))).unwrap();
                })
                .unwrap();
            (id, id_sender)
        };
        let (first_id, to_first) = add(&watches[0], &watches[1]);
        let (second_id, to_second) = add(&watches[1], &watches[0]);
        to_first.send(second_id).unwrap();
        to_second.send(first_id).unwrap();
        let answers = [receive(&receiver), receive(&receiver)];
        // The cancel that would close the cycle returns at once; the other one waits for its end.
        assert!(answers.contains(&Cancel::Running), "{answers:?}");
        assert!(answers.contains(&Cancel::NotPending), "{answers:?}");
    }
}

#[test]
fn cancel_waits_for_captures_that_another_thread_is_dropping() {
    let watcher = Watcher::new().unwrap();
    let child = ControlledChild::spawn();
    for by_closing in [false, true] {
        let watch = Arc::new(watcher.watch(child.pid()).unwrap());
        let other_watcher = Watcher::new().unwrap();
        let other_watch = Arc::new(other_watcher.watch(child.pid()).unwrap());
        let watch = if by_closing { other_watch } else { watch };
        let (started, has_started) = mpsc::channel();
        let dropped = Arc::new(AtomicUsize::new(0));
        let slow = OnDrop({
            let dropped = dropped.clone();
            move || {
                started.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(50));
                dropped.store(1, Ordering::SeqCst);
            }
        });
        let id = watch.on_exit(move |_| drop(slow)).unwrap();
        let dropping = std::thread::spawn({
            let watch = watch.clone();
            move || match by_closing {
                true => drop(other_watcher),
                false => assert_eq!(watch.cancel(id), Cancel::Cancelled),
            }
        });
        receive(&has_started);
        assert_eq!(watch.cancel(id), Cancel::NotPending);
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        dropping.join().unwrap();
    }
}

/// This took minutes when each cancel searched all callbacks.
#[test]
fn each_of_a_hundred_thousand_callbacks_of_one_watch_is_cancelled_or_runs() {
    const CALLBACKS: usize = 100_000;
    let watcher = Watcher::new().unwrap();
    let child = watcher.spawn(&mut sleep()).unwrap();
    let ran = Arc::new(Mutex::new(Vec::new()));
    let ids: Vec<_> = (0..CALLBACKS)
        .map(|index| {
            let ran = ran.clone();
            child
                .on_exit(move |_| ran.lock().unwrap().push(index))
                .unwrap()
        })
        .collect();
    // All but every tenth, in an order that is neither that of the adds nor its reverse.
    let kept: Vec<_> = (0..CALLBACKS).step_by(10).collect();
    for step in 0..CALLBACKS {
        let index = step * 7919 % CALLBACKS;
        if kept.binary_search(&index).is_err() {
            assert_eq!(child.cancel(ids[index]), Cancel::Cancelled);
            assert_eq!(child.cancel(ids[index]), Cancel::NotPending);
        }
    }
    let (sender, receiver) = mpsc::channel();
    child.on_exit(move |_| sender.send(()).unwrap()).unwrap();
    child.kill().unwrap();
    receive(&receiver);
    assert_eq!(*ran.lock().unwrap(), kept);
}
