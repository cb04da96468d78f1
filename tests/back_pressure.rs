//! Full queues: nothing is lost, nothing comes twice, and the order stays.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::*;
use exitring::{Outcome, Watcher};

#[test]
fn a_queue_of_one_delivers_a_thousand_exits_once_each() {
    const WATCHES: usize = 1000;
    for workers in [1, 3] {
        let watcher = Watcher::builder()
            .workers(workers)
            .queue_capacity(1)
            .build()
            .unwrap();
        let mut child = Obedient::spawn();
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
        let stats = until_stats(&watcher, "all is over", |stats| {
            stats.watched == 0 && stats.backlog == 0
        });
        assert!(runs.iter().all(|runs| runs.load(Ordering::SeqCst) == 1));
        assert_eq!(stats.delivered, WATCHES as u64);
        assert!(stats.stalls > 0, "{stats:?}");
        assert_eq!(stats.queued, 0);
    }
}

#[test]
fn while_callbacks_are_stuck_exits_are_seen_and_registrations_taken() {
    const CHILDREN: i32 = 50;
    let watcher = Watcher::builder()
        .workers(1)
        .queue_capacity(2)
        .build()
        .unwrap();
    let (release, released) = mpsc::channel::<()>();
    let blocker = zombie(0);
    let blocking = watcher.watch(blocker.pid()).unwrap();
    let (started, has_started) = mpsc::channel();
    blocking
        .on_exit(move |_| {
            started.send(()).unwrap();
            let _ = released.recv();
        })
        .unwrap();
    receive(&has_started);

    let order = Arc::new(Mutex::new(Vec::new()));
    for code in 0..CHILDREN {
        let child = zombie(code);
        let watch = watcher.watch(child.pid()).unwrap();
        let order = order.clone();
        watch
            .on_exit(move |exit| order.lock().unwrap().push(exit.outcome()))
            .unwrap();
        // Seen, though no callback can run.
        assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(code));
    }
    let stats = until_stats(&watcher, "the rest is parked", |stats| {
        stats.backlog == CHILDREN as u64 - 2
    });
    assert_eq!(stats.queued, 2);
    assert_eq!(stats.stalls, CHILDREN as u64 - 2);
    assert_eq!(*order.lock().unwrap(), []);

    drop(release);
    until_stats(&watcher, "all have run", |stats| {
        stats.callbacks == CHILDREN as u64 + 1
    });
    // With one worker, in the order in which they ended.
    let expected: Vec<_> = (0..CHILDREN).map(Outcome::Exited).collect();
    assert_eq!(*order.lock().unwrap(), expected);
}

#[test]
fn exits_run_in_the_order_of_the_ends_with_or_without_workers() {
    for workers in [0, 1] {
        let watcher = Watcher::builder().workers(workers).build().unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut children: Vec<_> = (0..10).map(|_| Obedient::spawn()).collect();
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
fn dropping_the_watcher_in_a_storm_runs_no_callback_afterwards() {
    for round in 0..20 {
        let watcher = Watcher::builder()
            .workers(round % 3)
            .queue_capacity(4)
            .build()
            .unwrap();
        let mut children: Vec<_> = (0..8).map(|_| Obedient::spawn()).collect();
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
        // What did not run has been let go of.
        assert_eq!(Arc::strong_count(&dropped), 1);
    }
}

#[test]
fn a_callback_is_told_how_long_its_exit_was_in_the_queue() {
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
        let (told, now) = receive(&receiver);
        assert_eq!(told.queued_at().is_some(), workers > 0);
        if let Some(queued_at) = told.queued_at() {
            assert!(told.seen_at() < queued_at && queued_at <= now, "{told:?}");
        }
        // It is of the way, not of the end.
        let exit = watch.exit().unwrap();
        assert_eq!(exit.queued_at(), None);
        assert_eq!(exit, told);
    }
}
