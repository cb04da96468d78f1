//! Full queues: each exit is delivered once, and in order.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::*;
use exitring::{Outcome, Watcher};

#[test]
fn a_queue_of_one_delivers_each_of_a_thousand_exits_once() {
    const WATCHES: usize = 1000;
    for workers in [1, 3] {
        let watcher = Watcher::builder()
            .workers(workers)
            .queue_capacity(1)
            .build()
            .unwrap();
        let mut child = ControlledChild::spawn();
        let runs: Arc<Vec<AtomicUsize>> =
            Arc::new((0..WATCHES).map(|_| AtomicUsize::new(0)).collect());
        let (sender, receiver) = mpsc::channel();
        for index in 0..WATCHES {
            let watch = watcher.watch(child.pid()).unwrap();
            let (runs, sender) = (runs.clone(), sender.clone());
            watch
                .on_exit(move |_| {
                    runs[index].fetch_add(1, Ordering::SeqCst);
                    sender.send(()).unwrap();
                })
                .unwrap();
        }
        drop(sender);
        child.exit(0);
        (0..WATCHES).for_each(|_| receive(&receiver));
        let stats = until_stats(&watcher, "nothing is watched", |stats| {
            stats.watched == 0 && stats.backlog == 0
        });
        assert!(runs.iter().all(|runs| runs.load(Ordering::SeqCst) == 1));
        assert_eq!(stats.delivered, WATCHES as u64);
        assert!(stats.stalls > 0, "{stats:?}");
        assert_eq!(stats.queued, 0);
    }
}

#[test]
fn while_callbacks_block_exits_are_seen_and_registrations_accepted() {
    const CHILDREN: i32 = 50;
    let watcher = Watcher::builder()
        .workers(1)
        .queue_capacity(2)
        .build()
        .unwrap();
    let ended = zombie(0);
    let release = block_in_callback(&watcher.watch(ended.pid()).unwrap());

    let order = Arc::new(Mutex::new(Vec::new()));
    for code in 0..CHILDREN {
        let child = zombie(code);
        let watch = watcher.watch(child.pid()).unwrap();
        let order = order.clone();
        watch
            .on_exit(move |exit| order.lock().unwrap().push(exit.outcome()))
            .unwrap();
        // The exit is seen although no callback can run.
        assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(code));
    }
    let stats = until_stats(&watcher, "the other exits are in the backlog", |stats| {
        stats.backlog == CHILDREN as u64 - 2
    });
    assert_eq!(stats.queued, 2);
    assert_eq!(stats.stalls, CHILDREN as u64 - 2);
    assert_eq!(*order.lock().unwrap(), []);

    drop(release);
    until_stats(&watcher, "all have run", |stats| {
        stats.callbacks == CHILDREN as u64 + 1
    });
    // One worker runs them in the order of the exits.
    let expected: Vec<_> = (0..CHILDREN).map(Outcome::Exited).collect();
    assert_eq!(*order.lock().unwrap(), expected);
}

#[test]
fn callbacks_run_in_the_order_of_the_exits_with_or_without_workers() {
    for workers in [0, 1] {
        let watcher = Watcher::builder().workers(workers).build().unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut children: Vec<_> = (0..10).map(|_| ControlledChild::spawn()).collect();
        let watches: Vec<_> = children
            .iter()
            .map(|child| {
                let watch = watcher.watch(child.pid()).unwrap();
                let order = order.clone();
                watch
                    .on_exit(move |exit| order.lock().unwrap().push(exit.pid()))
                    .unwrap();
                watch
            })
            .collect();
        until_stats(&watcher, "all are armed", |stats| stats.armed == 10);
        let mut expected = Vec::new();
        for index in (0..10).rev() {
            children[index].exit(0);
            watches[index].wait().unwrap();
            expected.push(children[index].pid());
        }
        until_stats(&watcher, "all have run", |stats| stats.callbacks == 10);
        assert_eq!(*order.lock().unwrap(), expected);
    }
}

#[test]
fn no_callback_runs_after_a_watcher_is_dropped_under_load() {
    for round in 0..20 {
        let watcher = Watcher::builder()
            .workers(round % 3)
            .queue_capacity(4)
            .build()
            .unwrap();
        let mut children: Vec<_> = (0..8).map(|_| ControlledChild::spawn()).collect();
        let dropped = Arc::new(AtomicUsize::new(0));
        let late = Arc::new(AtomicUsize::new(0));
        for child in &children {
            for _ in 0..5 {
                let watch = watcher.watch(child.pid()).unwrap();
                let (dropped, late) = (dropped.clone(), late.clone());
                watch
                    .on_exit(move |_| {
                        std::thread::yield_now();
                        late.fetch_add(dropped.load(Ordering::SeqCst), Ordering::SeqCst);
                    })
                    .unwrap();
            }
        }
        children.iter_mut().for_each(|child| child.exit(0));
        std::thread::sleep(Duration::from_micros(200 * round as u64));
        drop(watcher);
        dropped.store(1, Ordering::SeqCst);
        drop(children);
        assert_eq!(late.load(Ordering::SeqCst), 0);
        // The callbacks that did not run are dropped.
        assert_eq!(Arc::strong_count(&dropped), 1);
    }
}

#[test]
fn a_callback_sees_when_its_exit_was_queued() {
    for workers in [0, 1] {
        let watcher = Watcher::builder().workers(workers).build().unwrap();
        let child = zombie(3);
        let watch = watcher.watch(child.pid()).unwrap();
        let (sender, receiver) = mpsc::channel();
        watch
            .on_exit(move |exit| {
                sender
                    .send((exit.clone(), std::time::Instant::now()))
                    .unwrap()
            })
            .unwrap();
        let (received, now) = receive(&receiver);
        assert_eq!(received.queued_at().is_some(), workers > 0);
        if let Some(queued_at) = received.queued_at() {
            assert!(
                received.seen_at() < queued_at && queued_at <= now,
                "{received:?}"
            );
        }
        // The time belongs to this delivery, not to the exit.
        let exit = watch.exit().unwrap();
        assert_eq!(exit.queued_at(), None);
        assert_eq!(exit, received);
    }
}

#[test]
fn a_queue_of_one_delivers_each_of_ten_thousand_exits_once() {
    const CHILDREN: usize = 10_000;
    let test = "a_queue_of_one_delivers_each_of_ten_thousand_exits_once";
    if !in_own_process() {
        return run_in_own_process(test, |_| ());
    }
    let builder = Watcher::builder().workers(3).queue_capacity(1);
    let watcher = builder.build().unwrap();
    let runs: Arc<Vec<AtomicUsize>> =
        Arc::new((0..CHILDREN).map(|_| AtomicUsize::new(0)).collect());
    let gate = ExitGate::new();
    for index in 0..CHILDREN {
        let child = watcher.adopt_pid(gate.fork((index % 256) as i32)).unwrap();
        let runs = Arc::clone(&runs);
        child
            .on_exit(move |exit| {
                assert_eq!(exit.outcome(), Outcome::Exited((index % 256) as i32));
                runs[index].fetch_add(1, Ordering::SeqCst);
            })
            .unwrap();
    }
    gate.open();
    let stats = until_stats(&watcher, "nothing is watched", |stats| {
        stats.callbacks == CHILDREN as u64 && stats.watched == 0
    });
    assert_eq!((stats.delivered, stats.panics), (CHILDREN as u64, 0));
    assert!(stats.stalls > 0, "{stats:?}");
    drop(watcher);
    assert!(runs.iter().all(|runs| runs.load(Ordering::SeqCst) == 1));
}
