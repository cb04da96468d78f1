//! When callbacks run, on which thread, in which order, and when they do not.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use common::*;
use exitring::{Cancel, Closed, Outcome, WaitError, Watch, Watcher};

#[test]
fn a_callback_added_before_the_exit_runs_after_it() {
    each_worker_count(|watcher| {
        let mut child = Obedient::spawn();
        let watch = watcher.watch(child.pid()).unwrap();
        let (sender, receiver) = mpsc::channel();
        watch
            .on_exit(move |exit| sender.send(exit.clone()).unwrap())
            .unwrap();
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
        assert_eq!(child.reap(), exited(42), "it is still ours to reap");
    });
}

#[test]
fn a_callback_for_a_zombie_runs() {
    each_worker_count(|watcher| {
        let child = zombie(7);
        let watch = watcher.watch(child.pid()).unwrap();
        let (sender, receiver) = mpsc::channel();
        watch
            .on_exit(move |exit| sender.send(exit.outcome()).unwrap())
            .unwrap();
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
            let (sender, receiver) = mpsc::channel();
            watch
                .on_exit(move |exit| sender.send(exit.clone()).unwrap())
                .unwrap();
            assert_eq!(receive(&receiver), seen);
        }
        // Also when it was reaped meanwhile.
        child.reap();
        let (sender, receiver) = mpsc::channel();
        watch
            .on_exit(move |exit| sender.send(exit.clone()).unwrap())
            .unwrap();
        assert_eq!(receive(&receiver), seen);
    });
}

#[test]
fn callbacks_of_one_process_run_in_order_one_at_a_time_off_the_callers_thread() {
    each_worker_count(|watcher| {
        const CALLBACKS: usize = 50;
        let mut child = Obedient::spawn();
        let watch = watcher.watch(child.pid()).unwrap();
        let running = Arc::new(AtomicUsize::new(0));
        let order = Arc::new(Mutex::new(Vec::new()));
        let caller = std::thread::current().id();
        let (sender, receiver) = mpsc::channel();
        let add = |index: usize| {
            let (running, order, sender) = (running.clone(), order.clone(), sender.clone());
            watch
                .on_exit(move |_| {
                    assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
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
        // The rest comes while the first are run, or after.
        (CALLBACKS / 2..CALLBACKS).for_each(&add);
        (0..CALLBACKS).for_each(|_| receive(&receiver));
        assert_eq!(*order.lock().unwrap(), Vec::from_iter(0..CALLBACKS));
        assert_eq!(watcher.stats().panics, 0);
    });
}

#[test]
fn one_of_several_cancelled_never_runs_and_the_others_do() {
    each_worker_count(|watcher| {
        let mut child = Obedient::spawn();
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
        // The channel ends when all callbacks are gone, run or cancelled.
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(watch.cancel(ids[0]), Cancel::NotPending);
    });
}

#[test]
fn a_callbacks_id_cancels_nothing_on_another_watch() {
    let watcher = Watcher::new().unwrap();
    let mut child = Obedient::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    let other = watcher.watch(child.pid()).unwrap();
    let (sender, receiver) = mpsc::channel();
    let id = watch.on_exit(move |_| sender.send(()).unwrap()).unwrap();
    assert_eq!(other.cancel(id), Cancel::NotPending);
    child.exit(0);
    receive(&receiver);
}

#[test]
fn dropping_the_watch_lets_its_callbacks_run() {
    each_worker_count(|watcher| {
        let mut child = Obedient::spawn();
        let watch = watcher.watch(child.pid()).unwrap();
        let (sender, receiver) = mpsc::channel();
        watch
            .on_exit(move |exit| sender.send(exit.outcome()).unwrap())
            .unwrap();
        drop(watch);
        child.exit(3);
        assert_eq!(receive(&receiver), Outcome::Exited(3));
        until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
    });
}

#[test]
fn dropping_a_watch_without_callbacks_gives_the_watch_up() {
    each_worker_count(|watcher| {
        let child = Obedient::spawn();
        let watch = watcher.watch(child.pid()).unwrap();
        until_stats(&watcher, "it is armed", |stats| stats.armed == 1);
        drop(watch);
        let stats = until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
        assert_eq!((stats.armed, stats.delivered), (0, 0));
        // Cancelled callbacks do not keep it either.
        let watch = watcher.watch(child.pid()).unwrap();
        let id = watch.on_exit(|_| ()).unwrap();
        assert_eq!(watch.cancel(id), Cancel::Cancelled);
        drop(watch);
        until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
    });
}

#[test]
fn cancel_waits_for_the_end_of_a_callback_that_runs() {
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

/// The promise in its plain form, in a race: what a callback captured is gone when cancel returns.
#[test]
fn after_cancel_what_the_callback_captured_is_dropped() {
    each_worker_count(|watcher| {
        for _ in 0..200 {
            let mut child = Obedient::spawn();
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
            // The exit is on its way, with any luck just now.
            let _ = watch.cancel(id);
            assert_eq!(Arc::strong_count(&captured), 1);
        }
    });
}

#[test]
fn a_callback_that_cancels_itself_is_told_so_at_once() {
    each_worker_count(|watcher| {
        let mut child = Obedient::spawn();
        let watch = Arc::new(watcher.watch(child.pid()).unwrap());
        let own_id = Arc::new(OnceLock::new());
        let (sender, receiver) = mpsc::channel();
        let id = watch
            .on_exit({
                let (watch, own_id) = (watch.clone(), own_id.clone());
                move |_| sender.send(watch.cancel(*own_id.wait())).unwrap()
            })
            .unwrap();
        own_id.set(id).unwrap();
        child.exit(0);
        assert_eq!(receive(&receiver), Cancel::Running);
    });
}

#[test]
fn two_callbacks_that_cancel_each_other_both_end() {
    let watcher = Watcher::builder().workers(2).build().unwrap();
    for _ in 0..50 {
        let children = [zombie(0), zombie(0)];
        let watches: Vec<Arc<Watch>> = children
            .iter()
            .map(|child| Arc::new(watcher.watch(child.pid()).unwrap()))
            .collect();
        let ids = Arc::new([OnceLock::new(), OnceLock::new()]);
        let both_run = Arc::new(std::sync::Barrier::new(2));
        let (sender, receiver) = mpsc::channel();
        for me in 0..2 {
            let other = watches[1 - me].clone();
            let (ids_inside, both_run, sender) = (ids.clone(), both_run.clone(), sender.clone());
            let id = watches[me]
                .on_exit(move |_| {
                    both_run.wait();
                    sender
                        .send(other.cancel(*ids_inside[1 - me].wait()))
                        .unwrap();
                })
                .unwrap();
            ids[me].set(id).unwrap();
        }
        let answers = [receive(&receiver), receive(&receiver)];
        // One would have closed the circle and is told; the other's wish came true.
        assert!(answers.contains(&Cancel::Running), "{answers:?}");
        assert!(answers.contains(&Cancel::NotPending), "{answers:?}");
    }
}

#[test]
fn a_panicking_callback_hurts_nobody_else() {
    each_worker_count(|watcher| {
        let mut child = Obedient::spawn();
        let watch = watcher.watch(child.pid()).unwrap();
        let (sender, receiver) = mpsc::channel();
        watch.on_exit(|_| panic!("for the test")).unwrap();
        watch
            .on_exit(move |exit| sender.send(exit.outcome()).unwrap())
            .unwrap();
        // A payload that panics when it is dropped.
        struct Nasty;
        impl Drop for Nasty {
            fn drop(&mut self) {
                panic!("for the test, again");
            }
        }
        watch.on_exit(|_| std::panic::panic_any(Nasty)).unwrap();
        child.exit(1);
        assert_eq!(receive(&receiver), Outcome::Exited(1));
        until_stats(&watcher, "all have run", |stats| stats.callbacks == 3);
        assert_eq!(watcher.stats().panics, 2);
        // All threads go on.
        let next = zombie(2);
        let watch = watcher.watch(next.pid()).unwrap();
        let (sender, receiver) = mpsc::channel();
        watch
            .on_exit(move |exit| sender.send(exit.outcome()).unwrap())
            .unwrap();
        assert_eq!(receive(&receiver), Outcome::Exited(2));
    });
}

#[test]
fn a_callback_may_call_everything() {
    each_worker_count(|watcher| {
        let watcher = Arc::new(watcher);
        let mut child = Obedient::spawn();
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
                            let _reaped_when_told = other;
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
fn a_callback_may_drop_the_watcher() {
    each_worker_count(|watcher| {
        let mut child = Obedient::spawn();
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
        until("the second callback is gone", || {
            watch.cancel(never) == Cancel::NotPending
        });
        assert_eq!(watch.on_exit(|_| ()), Err(Closed::Dropped));
    });
}

/// The one who drops waits for the others, one of which waits for the one who drops.
#[test]
fn a_callback_that_drops_the_watcher_and_one_that_cancels_it_both_end() {
    for _ in 0..50 {
        let watcher = Watcher::builder().workers(2).build().unwrap();
        let children = [zombie(0), zombie(0)];
        let first = Arc::new(watcher.watch(children[0].pid()).unwrap());
        let second = watcher.watch(children[1].pid()).unwrap();
        let both_run = Arc::new(std::sync::Barrier::new(2));
        let id = Arc::new(OnceLock::new());
        let (sender, receiver) = mpsc::channel();
        second
            .on_exit({
                let (first, id, both_run) = (first.clone(), id.clone(), both_run.clone());
                let sender = sender.clone();
                move |_| {
                    both_run.wait();
                    let _ = first.cancel(*id.wait());
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
        id.set(dropper).unwrap();
        receive(&receiver);
        receive(&receiver);
    }
}

#[test]
fn waiting_for_another_process_on_the_ring_thread_is_refused() {
    let watcher = Watcher::builder().workers(0).build().unwrap();
    let (ended, lives) = (zombie(0), Obedient::spawn());
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
    let slow = watcher.watch(child.pid()).unwrap();
    let (release, released) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel();
    slow.on_exit(move |_| {
        started.send(()).unwrap();
        let _ = released.recv();
    })
    .unwrap();
    receive(&has_started);
    // The first worker is stuck until we let it go; everything else goes on.
    for code in 0..20 {
        let child = zombie(code);
        let watch = watcher.watch(child.pid()).unwrap();
        let (sender, receiver) = mpsc::channel();
        watch
            .on_exit(move |exit| sender.send(exit.outcome()).unwrap())
            .unwrap();
        assert_eq!(receive(&receiver), Outcome::Exited(code));
    }
    drop(release);
}

/// Has something done when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn cancel_waits_for_captures_that_another_thread_is_dropping() {
    let watcher = Watcher::new().unwrap();
    let child = Obedient::spawn();
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

/// The captures of a callback that never runs cancel the callback that drops the watcher.
#[test]
fn a_callback_that_drops_the_watcher_and_captures_that_cancel_it_both_end() {
    each_worker_count(|watcher| {
        let (lives, mut ends) = (Obedient::spawn(), Obedient::spawn());
        let never = watcher.watch(lives.pid()).unwrap();
        let watch = Arc::new(watcher.watch(ends.pid()).unwrap());
        let id = Arc::new(OnceLock::new());
        let (sender, receiver) = mpsc::channel();
        let guard = OnDrop({
            let (watch, id, sender) = (watch.clone(), id.clone(), sender.clone());
            move || {
                let _ = watch.cancel(*id.wait());
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
        id.set(dropper).unwrap();
        ends.exit(0);
        receive(&receiver);
        receive(&receiver);
    });
}

#[test]
fn a_callback_that_adds_itself_again_and_again_starves_nobody() {
    each_worker_count(|watcher| {
        fn again(watch: Arc<Watch>, stop: Arc<AtomicUsize>) {
            let next = watch.clone();
            // Refused when the watcher is dropped.
            let _ = watch.on_exit(move |_| {
                if stop.load(Ordering::SeqCst) == 0 {
                    again(next, stop);
                }
            });
        }
        let (one, other) = (zombie(0), zombie(1));
        let stop = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            again(Arc::new(watcher.watch(one.pid()).unwrap()), stop.clone());
        }
        let (sender, receiver) = mpsc::channel();
        let watch = watcher.watch(other.pid()).unwrap();
        watch
            .on_exit(move |exit| sender.send(exit.outcome()).unwrap())
            .unwrap();
        assert_eq!(receive(&receiver), Outcome::Exited(1));
        stop.store(1, Ordering::SeqCst);
        until_stats(&watcher, "all is over", |stats| stats.watched == 0);
    });
}

/// With a search among all of them for each this took minutes.
#[test]
fn of_a_hundred_thousand_callbacks_of_one_watch_each_is_cancelled_or_runs() {
    const CALLBACKS: usize = 100_000;
    let watcher = Watcher::new().unwrap();
    let child = watcher
        .spawn(std::process::Command::new("sleep").arg("1000"))
        .unwrap();
    let ran = Arc::new(Mutex::new(Vec::new()));
    let ids: Vec<_> = (0..CALLBACKS)
        .map(|index| {
            let ran = ran.clone();
            child
                .on_exit(move |_| ran.lock().unwrap().push(index))
                .unwrap()
        })
        .collect();
    // All but each tenth, in an order that is nobody's.
    let is_kept = |index: usize| index.is_multiple_of(10);
    for step in 0..CALLBACKS {
        let index = step * 7919 % CALLBACKS;
        if !is_kept(index) {
            assert_eq!(child.cancel(ids[index]), Cancel::Cancelled);
            assert_eq!(child.cancel(ids[index]), Cancel::NotPending);
        }
    }
    let (sender, receiver) = mpsc::channel();
    child.on_exit(move |_| sender.send(()).unwrap()).unwrap();
    child.kill().unwrap();
    receive(&receiver);
    let expected: Vec<_> = (0..CALLBACKS).filter(|index| is_kept(*index)).collect();
    assert_eq!(*ran.lock().unwrap(), expected);
}
