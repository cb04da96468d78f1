//! When callbacks run, on which thread, and in which order.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::*;
use exitring::{Outcome, WaitError, Watch, Watcher};

#[test]
fn a_callback_added_before_the_exit_runs_after_it() {
    each_worker_count(|watcher| {
        let mut child = ControlledChild::spawn();
        let watch = watcher.watch(child.pid()).unwrap();
        let receiver = exit_receiver(&watch);
        assert_eq!(
            receiver.recv_timeout(Duration::from_millis(50)),
            Err(mpsc::RecvTimeoutError::Timeout)
        );
        assert_eq!(watch.exit(), None);

        child.exit(42);
        let exit = receive(&receiver);
        assert_eq!(exit.pid(), child.pid());
        assert_eq!(exit.outcome(), Outcome::Exited(42));
        assert_eq!(exit.status(), Some(exited(42)));
        assert_eq!(watch.exit(), Some(exit));
        assert_eq!(child.reap(), exited(42), "the watcher does not reap it");
    });
}

#[test]
fn a_callback_for_a_zombie_runs() {
    each_worker_count(|watcher| {
        let child = zombie(7);
        let watch = watcher.watch(child.pid()).unwrap();
        let receiver = outcome_receiver(&watch);
        assert_eq!(receive(&receiver), Outcome::Exited(7));
        assert_eq!(child.reap(), exited(7));
    });
}

#[test]
fn a_callback_added_after_the_exit_was_seen_runs() {
    each_worker_count(|watcher| {
        let child = zombie(8);
        let watch = watcher.watch(child.pid()).unwrap();
        let seen = watch.wait().unwrap();
        for _ in 0..3 {
            let receiver = exit_receiver(&watch);
            assert_eq!(receive(&receiver), seen);
        }
        // Also after the child was reaped.
        child.reap();
        let receiver = exit_receiver(&watch);
        assert_eq!(receive(&receiver), seen);
    });
}

#[test]
fn callbacks_of_one_process_run_in_order_one_at_a_time_off_the_callers_thread() {
    each_worker_count(|watcher| {
        const CALLBACKS: usize = 50;
        let mut child = ControlledChild::spawn();
        let watch = watcher.watch(child.pid()).unwrap();
        let running = Arc::new(AtomicUsize::new(0));
        let order = Arc::new(Mutex::new(Vec::new()));
        let caller = std::thread::current().id();
        let (sender, receiver) = mpsc::channel();
        let add = |index: usize| {
            let (running, order, sender) = (running.clone(), order.clone(), sender.clone());
            watch
                .on_exit(move |_| {
                    let others = running.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(others, 0, "one at a time");
                    assert_ne!(std::thread::current().id(), caller);
                    order.lock().unwrap().push(index);
                    std::thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                    sender.send(()).unwrap();
                })
                .unwrap();
        };
        (0..CALLBACKS / 2).for_each(&add);
        child.exit(0);
        // The others are added while the first ones run, or afterwards.
        (CALLBACKS / 2..CALLBACKS).for_each(&add);
        (0..CALLBACKS).for_each(|_| receive(&receiver));
        assert_eq!(*order.lock().unwrap(), Vec::from_iter(0..CALLBACKS));
        assert_eq!(watcher.stats().panics, 0);
    });
}

#[test]
fn a_panicking_callback_affects_no_other_callback() {
    each_worker_count(|watcher| {
        let mut child = ControlledChild::spawn();
        let watch = watcher.watch(child.pid()).unwrap();
        watch.on_exit(|_| panic!("for the test")).unwrap();
        let receiver = outcome_receiver(&watch);
        // The payload panics, too, when it is dropped.
        watch
            .on_exit(|_| std::panic::panic_any(OnDrop(|| panic!("for the test, again"))))
            .unwrap();
        child.exit(1);
        assert_eq!(receive(&receiver), Outcome::Exited(1));
        until_stats(&watcher, "all have run", |stats| stats.callbacks == 3);
        assert_eq!(watcher.stats().panics, 2);
        // All threads keep running.
        let next = zombie(2);
        let watch = watcher.watch(next.pid()).unwrap();
        let receiver = outcome_receiver(&watch);
        assert_eq!(receive(&receiver), Outcome::Exited(2));
    });
}

#[test]
fn a_callback_may_call_every_method() {
    each_worker_count(|watcher| {
        let watcher = Arc::new(watcher);
        let mut child = ControlledChild::spawn();
        let watch = Arc::new(watcher.watch(child.pid()).unwrap());
        let (sender, receiver) = mpsc::channel();
        watch
            .on_exit({
                let (watcher, watch) = (watcher.clone(), watch.clone());
                move |exit| {
                    assert_eq!(watch.exit().as_ref(), Some(exit));
                    assert_eq!(watch.wait().as_ref(), Ok(exit));
                    let other = zombie(9);
                    let other_watch = watcher.watch(other.pid()).unwrap();
                    let unwanted = other_watch.on_exit(|_| ()).unwrap();
                    let _ = other_watch.cancel(unwanted);
                    let inner = sender.clone();
                    other_watch
                        .on_exit(move |exit| {
                            let _reaped_after_its_exit = other;
                            inner.send(exit.outcome()).unwrap();
                        })
                        .unwrap();
                    watch
                        .on_exit(move |exit| sender.send(exit.outcome()).unwrap())
                        .unwrap();
                    let _ = watcher.stats();
                }
            })
            .unwrap();
        child.exit(4);
        let mut outcomes = [receive(&receiver), receive(&receiver)];
        outcomes.sort_by_key(|outcome| format!("{outcome:?}"));
        assert_eq!(outcomes, [Outcome::Exited(4), Outcome::Exited(9)]);
    });
}

#[test]
fn waiting_for_another_process_on_the_ring_thread_is_refused() {
    let watcher = Watcher::builder().workers(0).build().unwrap();
    let (ended, lives) = (zombie(0), ControlledChild::spawn());
    let watch = watcher.watch(ended.pid()).unwrap();
    let other = watcher.watch(lives.pid()).unwrap();
    let (sender, receiver) = mpsc::channel();
    watch
        .on_exit(move |_| {
            let answers = (other.wait(), other.wait_timeout(Duration::ZERO));
            sender.send(answers).unwrap();
        })
        .unwrap();
    let (wait, wait_timeout) = receive(&receiver);
    assert_eq!(wait, Err(WaitError::WouldDeadlock));
    assert_eq!(wait_timeout, Err(WaitError::WouldDeadlock));
}

#[test]
fn a_slow_callback_delays_no_registration_and_no_other_worker() {
    let watcher = Watcher::builder().workers(2).build().unwrap();
    let child = zombie(0);
    // Blocks one worker; everything else continues.
    let release = block_in_callback(&watcher.watch(child.pid()).unwrap());
    for code in 0..20 {
        let child = zombie(code);
        let watch = watcher.watch(child.pid()).unwrap();
        let receiver = outcome_receiver(&watch);
        assert_eq!(receive(&receiver), Outcome::Exited(code));
    }
    drop(release);
}

#[test]
fn a_callback_that_keeps_adding_itself_starves_no_other() {
    each_worker_count(|watcher| {
        fn add_again(watch: Arc<Watch>, stop: Arc<AtomicUsize>) {
            let next = watch.clone();
            // Refused when the watcher is dropped.
            let _ = watch.on_exit(move |_| {
                if stop.load(Ordering::SeqCst) == 0 {
                    add_again(next, stop);
                }
            });
        }
        let (one, other) = (zombie(0), zombie(1));
        let stop = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            add_again(Arc::new(watcher.watch(one.pid()).unwrap()), stop.clone());
        }
        let receiver = outcome_receiver(&watcher.watch(other.pid()).unwrap());
        assert_eq!(receive(&receiver), Outcome::Exited(1));
        stop.store(1, Ordering::SeqCst);
        until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
    });
}
