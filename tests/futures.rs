//! Waiting without blocking, under different executors.

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
fn a_plain_block_on_gets_the_exit() {
    let watcher = Watcher::new().unwrap();
    let ended = zombie(1);
    let watch = watcher.watch(ended.pid()).unwrap();
    let exit = futures_lite::future::block_on(watch.exited()).unwrap();
    assert_eq!(exit.outcome(), Outcome::Exited(1));
    // Again, though it was seen.
    assert_eq!(futures_lite::future::block_on(watch.exited()), Ok(exit));
}

#[test]
fn tokio_tasks_get_their_exits() {
    for mut builder in [
        tokio::runtime::Builder::new_current_thread(),
        tokio::runtime::Builder::new_multi_thread(),
    ] {
        builder.enable_all().build().unwrap().block_on(async {
            let watcher = Watcher::new().unwrap();
            let tasks: Vec<_> = (0..50)
                .map(|code| {
                    let mut command = std::process::Command::new("sh");
                    command.args(["-c", &format!("sleep 0.0{}; exit {code}", code % 10)]);
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
fn a_waker_may_drop_the_watcher_and_callbacks_are_let_go_of() {
    struct DropsIt(Mutex<Option<Watcher>>);
    impl Wake for DropsIt {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
        }
    }
    let watcher = Watcher::new().unwrap();
    let mut child = Obedient::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    let (sender, receiver) = mpsc::channel::<()>();
    watch.on_exit(move |_| drop(sender)).unwrap();
    let waker = Waker::from(Arc::new(DropsIt(Mutex::new(Some(watcher)))));
    let mut future = pin!(watch.exited());
    let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    child.exit(3);
    // It has run, or never will and is dropped.
    let end = receiver.recv_timeout(FOREVER);
    assert_eq!(end, Err(mpsc::RecvTimeoutError::Disconnected));
    assert_eq!(watch.exit().unwrap().outcome(), Outcome::Exited(3));
    assert_eq!(child.reap().code(), Some(3));
}

#[test]
fn a_future_may_be_given_up_and_another_made() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let watcher = Watcher::new().unwrap();
        let mut child = Obedient::spawn();
        let watch = watcher.watch(child.pid()).unwrap();
        for _ in 0..3 {
            let given_up = tokio::time::timeout(Duration::from_millis(5), watch.exited());
            assert!(given_up.await.is_err());
        }
        let (one, other) = (watch.exited(), watch.exited());
        child.exit(2);
        let (one, other) = futures_lite::future::zip(one, other).await;
        assert_eq!(one, other);
        assert_eq!(one.unwrap().outcome(), Outcome::Exited(2));
    });
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn only_the_last_waker_is_woken_and_that_of_a_dropped_future_is_not() {
    let watcher = Watcher::new().unwrap();
    let mut child = Obedient::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    let counts: [Arc<Count>; 3] = std::array::from_fn(|_| Arc::new(Count(AtomicUsize::new(0))));
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
    until("it is woken", || counts[1].0.load(Ordering::SeqCst) == 1);
    assert_eq!(counts[0].0.load(Ordering::SeqCst), 0);
    assert_eq!(counts[2].0.load(Ordering::SeqCst), 0);
    assert!(
        future
            .as_mut()
            .poll(&mut Context::from_waker(&wakers[0]))
            .is_ready()
    );
}

#[test]
fn dropping_the_watcher_wakes_and_refuses() {
    let child = Obedient::spawn();
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
fn a_watch_and_a_child_are_awaited_by_themselves_and_by_reference() {
    let watcher = Watcher::new().unwrap();
    let spawn = || {
        let mut command = std::process::Command::new("sh");
        watcher.spawn(command.args(["-c", "exit 6"])).unwrap()
    };
    futures_lite::future::block_on(async {
        let child = spawn();
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
fn a_future_that_owns_its_child_goes_to_another_thread_and_takes_the_child_along() {
    let watcher = Watcher::new().unwrap();
    let mut child = watcher
        .spawn(std::process::Command::new("sleep").arg("1000"))
        .unwrap();
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
    until("it is killed and reaped", || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
}

/// With a search among all of them for each this took minutes.
#[test]
fn a_hundred_thousand_futures_of_one_watch_are_woken_or_dropped() {
    const FUTURES: usize = 100_000;
    let watcher = Watcher::new().unwrap();
    let child = watcher
        .spawn(std::process::Command::new("sleep").arg("1000"))
        .unwrap();
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(count.clone());
    let mut context = Context::from_waker(&waker);
    let mut futures: Vec<_> = (0..FUTURES).map(|_| Box::pin(child.exited())).collect();
    for round in 0..3 {
        for future in &mut futures {
            assert!(future.as_mut().poll(&mut context).is_pending());
        }
        // Others take the places of these.
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
    until("each that is left is woken", || {
        count.0.load(Ordering::SeqCst) == FUTURES / 2
    });
    for future in futures {
        assert!(futures_lite::future::block_on(future).is_ok());
    }
}
