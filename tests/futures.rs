//! Futures of exits, with different executors.

mod common;

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::*;
use exitring::{Closed, Outcome, Watcher};

#[test]
fn a_plain_block_on_returns_the_exit() {
    let watcher = Watcher::new().unwrap();
    let ended = zombie(1);
    let watch = watcher.watch(ended.pid()).unwrap();
    let exit = futures_lite::future::block_on(watch.exited()).unwrap();
    assert_eq!(exit.outcome(), Outcome::Exited(1));
    // Again, after the exit was seen.
    assert_eq!(futures_lite::future::block_on(watch.exited()), Ok(exit));
}

#[test]
fn tokio_tasks_await_their_exits() {
    for mut builder in [
        tokio::runtime::Builder::new_current_thread(),
        tokio::runtime::Builder::new_multi_thread(),
    ] {
        builder.enable_all().build().unwrap().block_on(async {
            let watcher = Watcher::new().unwrap();
            let tasks: Vec<_> = (0..50)
                .map(|code| {
                    let mut command = sh(&format!("sleep 0.0{}; exit {code}", code % 10));
                    let child = watcher.spawn(&mut command).unwrap();
                    tokio::spawn(async move { child.exited().await })
                })
                .collect();
            for (code, task) in tasks.into_iter().enumerate() {
                let exit = task.await.unwrap().unwrap();
                assert_eq!(exit.outcome(), Outcome::Exited(code as i32));
            }
        });
    }
}

#[test]
fn a_waker_may_drop_the_watcher_and_its_callbacks_run_or_are_dropped() {
    struct DropWatcherWaker(Mutex<Option<Watcher>>);
    impl Wake for DropWatcherWaker {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
        }
    }
    let watcher = Watcher::new().unwrap();
    let mut child = ControlledChild::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    let (sender, receiver) = mpsc::channel::<()>();
    watch.on_exit(move |_| drop(sender)).unwrap();
    let waker = Waker::from(Arc::new(DropWatcherWaker(Mutex::new(Some(watcher)))));
    let mut future = pin!(watch.exited());
    let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    child.exit(3);
    // The callback has run, or it was dropped and never will.
    let end = receiver.recv_timeout(TEST_TIMEOUT);
    assert_eq!(end, Err(mpsc::RecvTimeoutError::Disconnected));
    assert_eq!(watch.exit().unwrap().outcome(), Outcome::Exited(3));
    assert_eq!(child.reap().code(), Some(3));
}

#[test]
fn a_future_may_be_dropped_and_another_created() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let watcher = Watcher::new().unwrap();
        let mut child = ControlledChild::spawn();
        let watch = watcher.watch(child.pid()).unwrap();
        for _ in 0..3 {
            let dropped = tokio::time::timeout(Duration::from_millis(5), watch.exited());
            assert!(dropped.await.is_err());
        }
        let (one, other) = (watch.exited(), watch.exited());
        child.exit(2);
        let (one, other) = futures_lite::future::zip(one, other).await;
        assert_eq!(one, other);
        assert_eq!(one.unwrap().outcome(), Outcome::Exited(2));
    });
}

/// A waker that counts its calls.
#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl CountingWaker {
    fn calls(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn only_the_last_waker_is_woken_and_that_of_a_dropped_future_is_not() {
    let watcher = Watcher::new().unwrap();
    let mut child = ControlledChild::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    let counts: [Arc<CountingWaker>; 3] = Default::default();
    let wakers: Vec<Waker> = counts.iter().map(|count| count.clone().into()).collect();
    let mut future = pin!(watch.exited());
    for waker in &wakers[..2] {
        assert_eq!(
            future.as_mut().poll(&mut Context::from_waker(waker)),
            Poll::Pending
        );
    }
    {
        let mut dropped = pin!(watch.exited());
        let mut context = Context::from_waker(&wakers[2]);
        assert_eq!(dropped.as_mut().poll(&mut context), Poll::Pending);
    }
    child.exit(0);
    until("the last waker is woken", || counts[1].calls() == 1);
    assert_eq!(counts[0].calls(), 0);
    assert_eq!(counts[2].calls(), 0);
    assert!(
        future
            .as_mut()
            .poll(&mut Context::from_waker(&wakers[0]))
            .is_ready()
    );
}

#[test]
fn dropping_the_watcher_wakes_a_future_with_an_error() {
    let child = ControlledChild::spawn();
    let watcher = Watcher::new().unwrap();
    let watch = watcher.watch(child.pid()).unwrap();
    let dropper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(10));
        drop(watcher);
    });
    let closed = futures_lite::future::block_on(watch.exited());
    assert_eq!(closed, Err(Closed::Dropped));
    dropper.join().unwrap();
}

#[test]
fn a_watch_and_a_child_can_be_awaited_by_value_and_by_reference() {
    let watcher = Watcher::new().unwrap();
    futures_lite::future::block_on(async {
        let child = watcher.spawn(&mut sh("exit 6")).unwrap();
        assert_eq!((&child).await.unwrap().outcome(), Outcome::Exited(6));
        assert_eq!((&child).await.unwrap().outcome(), Outcome::Exited(6));
        assert_eq!(child.await.unwrap().outcome(), Outcome::Exited(6));

        let ended = zombie(5);
        let watch = match watcher.watch(ended.pid()) {
            Ok(watch) => watch,
            // Without pidfds.
            Err(_) => return,
        };
        assert_eq!((&watch).await.unwrap().outcome(), Outcome::Exited(5));
        assert_eq!(watch.await.unwrap().outcome(), Outcome::Exited(5));
    });
}

#[test]
fn a_future_that_owns_its_child_can_be_sent_and_drops_the_child() {
    let watcher = Watcher::new().unwrap();
    let mut child = watcher.spawn(&mut sleep()).unwrap();
    child.kill_on_drop(true);
    let pid = child.pid();
    let future = child.into_future();
    std::thread::spawn(move || {
        let mut future = pin!(future);
        let waker = Waker::noop();
        assert!(
            future
                .as_mut()
                .poll(&mut Context::from_waker(waker))
                .is_pending()
        );
    })
    .join()
    .unwrap();
    until_reaped(pid);
}

/// This took minutes when each wake and drop searched all futures.
#[test]
fn each_of_a_hundred_thousand_futures_of_one_watch_is_woken_or_dropped() {
    const FUTURES: usize = 100_000;
    let watcher = Watcher::new().unwrap();
    let child = watcher.spawn(&mut sleep()).unwrap();
    let count = Arc::new(CountingWaker::default());
    let waker = Waker::from(count.clone());
    let mut context = Context::from_waker(&waker);
    let mut futures: Vec<_> = (0..FUTURES).map(|_| Box::pin(child.exited())).collect();
    for round in 0..3 {
        for future in &mut futures {
            assert!(future.as_mut().poll(&mut context).is_pending());
        }
        // Replaces every second future.
        for index in (round..FUTURES).step_by(2) {
            futures[index] = Box::pin(child.exited());
        }
    }
    for future in &mut futures {
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
    futures.truncate(FUTURES / 2);
    child.kill().unwrap();
    child.wait().unwrap();
    until("each remaining future is woken", || {
        count.calls() == FUTURES / 2
    });
    for future in futures {
        assert!(futures_lite::future::block_on(future).is_ok());
    }
}
