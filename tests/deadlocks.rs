//! Calls that block, made by callbacks and wakers that wait for each other: each returns.

mod common;

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::process::Command;
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;

use common::*;
use exitring::compat::ChildPidWatcher;
use exitring::{CallbackId, Child, Exits, Pid, Watch, Watcher};

/// What a callback of one watcher has of another one: a process that lives, a callback that runs, and the
/// watcher itself.
struct Other {
    lives: Arc<Child>,
    exits: Exits,
    /// Ends by its deadline alone, which is in a second, or when the watcher ends.
    piped: Mutex<Option<Child>>,
    running: (Arc<Watch>, CallbackId),
    watcher: Mutex<Option<Watcher>>,
    compat: Mutex<Option<ChildPidWatcher>>,
}

/// What one callback does.
type Call = fn(&Other);
/// What the other callback does, which waits for the first one.
type WaitForCallback = fn(&mut Option<Watcher>, &Watch, CallbackId);

/// Every blocking call of the public API; `wait_graph.rs` has the same list.
const BLOCKING_CALLS: &[(&str, Call)] = &[
    ("Watch::wait", |other| drop(other.lives.wait())),
    ("Watch::wait_timeout", |other| {
        drop(other.lives.wait_timeout(2 * FOREVER));
    }),
    ("Child::wait_with_output", |other| {
        let piped = other.piped.lock().unwrap().take();
        let _ = piped.map(Child::wait_with_output);
    }),
    ("Exits::recv", |other| drop(other.exits.recv())),
    ("Exits::recv_timeout", |other| {
        drop(other.exits.recv_timeout(2 * FOREVER));
    }),
    ("Exits::recv_batch", |other| {
        let _ = other.exits.recv_batch(&mut Vec::new(), 8);
    }),
    ("Watch::cancel", |other| {
        let _ = other.running.0.cancel(other.running.1);
    }),
    ("the drop of a Watcher", |other| {
        drop(other.watcher.lock().unwrap().take());
    }),
    ("the drop of a ChildPidWatcher", |other| {
        drop(other.compat.lock().unwrap().take());
    }),
    ("Watcher::watch", |other| {
        if let Some(watcher) = &*other.watcher.lock().unwrap() {
            drop(watcher.watch(std::process::id()));
        }
    }),
];

/// What the callback on the ring thread of the other watcher does, which waits for the first callback.
const WAITS_FOR_THE_CALLBACK: &[(&str, WaitForCallback)] = &[
    ("cancel", |_, watch, callback| {
        let _ = watch.cancel(callback);
    }),
    ("drop", |watcher, _, _| drop(watcher.take())),
];

fn sleep(watcher: &Watcher) -> Child {
    let child = watcher.spawn(Command::new("sleep").arg("1000"));
    let mut child = child.expect("sleep starts");
    child.kill_on_drop(true);
    child
}

fn trivial(watcher: &Watcher) -> Child {
    watcher
        .spawn(&mut Command::new("true"))
        .expect("true starts")
}

/// Callback X, on a worker of watcher A, makes the call; callback Y, on the ring thread of watcher B, waits for X.
fn two_watchers(call: Call, waits_for_x: WaitForCallback, y_first: bool) {
    let a = Watcher::builder().workers(1).build().unwrap();
    let b = Watcher::builder().workers(0).build().unwrap();
    let lives = Arc::new(sleep(&b));
    let exits = b.exits(1).unwrap();
    exits.add(&lives, 1).unwrap();
    // Reaped below: watched by B, and not B's.
    let mut running = Command::new("true").spawn().unwrap();
    let running_watch = Arc::new(b.watch(running.id()).unwrap());

    let of_x = trivial(&a);
    let a = Arc::new(Mutex::new(Some(a)));
    let (x_id, y_knows) = mpsc::channel();
    let (x_runs, seen_running) = mpsc::channel();
    let y_runs = x_runs.clone();
    let (done, both_done) = mpsc::channel();
    let of_x = Arc::new(of_x);

    let (y_done, of_x_for_y) = (done.clone(), Arc::clone(&of_x));
    let (give_y_id, x_knows) = mpsc::channel();
    let (start_y, y_starts) = mpsc::channel::<()>();
    let y_id = running_watch
        .on_exit(move |_| {
            let x = y_knows.recv().unwrap();
            y_runs.send(()).unwrap();
            y_starts.recv().unwrap();
            waits_for_x(&mut a.lock().unwrap(), &of_x_for_y, x);
            y_done.send("y").unwrap();
        })
        .unwrap();
    give_y_id.send(y_id).unwrap();

    let mut command = Command::new("sleep");
    command.arg("1000").stdout(std::process::Stdio::piped());
    let mut piped = b.spawn(&mut command).unwrap();
    piped.kill_on_drop(true);
    piped
        .deadline(std::time::Duration::from_secs(1), std::time::Duration::ZERO)
        .unwrap();
    let other = Other {
        lives: Arc::clone(&lives),
        exits,
        piped: Mutex::new(Some(piped)),
        running: (running_watch, x_knows.recv().unwrap()),
        watcher: Mutex::new(Some(b)),
        compat: Mutex::new(Some(ChildPidWatcher::new())),
    };
    let (start_x, x_starts) = mpsc::channel::<()>();
    let x = of_x
        .on_exit(move |_| {
            x_runs.send(()).unwrap();
            x_starts.recv().unwrap();
            call(&other);
            done.send("x").unwrap();
            // What it captured is dropped here, and so B: on this thread, too.
        })
        .unwrap();
    x_id.send(x).unwrap();
    for _ in 0..2 {
        seen_running.recv().unwrap();
    }

    let order = [start_x, start_y];
    let (first, second) = if y_first { (1, 0) } else { (0, 1) };
    order[first].send(()).unwrap();
    // Most often it blocks by then. If not, the two race, which has to end as well.
    thread::sleep(std::time::Duration::from_millis(20));
    order[second].send(()).unwrap();
    for _ in 0..2 {
        // A call of X's that was there first waits for the process; nothing but its end is missing then.
        let _ = lives.kill();
        both_done.recv_timeout(FOREVER).expect("nothing hangs");
    }
    running.wait().unwrap();
}

#[test]
fn every_blocking_call_returns_though_what_it_waits_for_waits_for_it() {
    for (name, call) in BLOCKING_CALLS {
        for (waits, waits_for_x) in WAITS_FOR_THE_CALLBACK {
            for y_first in [false, true] {
                eprintln!("{name}, {waits}, the ring thread first: {y_first}");
                two_watchers(*call, *waits_for_x, y_first);
            }
        }
    }
}

#[test]
fn exits_that_several_watchers_are_to_bring_are_waited_for_from_each() {
    // The callback of A waits for exits of A and of B, and B's ring thread for the callback.
    let a = Watcher::new().unwrap();
    let b = Watcher::builder().workers(0).build().unwrap();
    let (of_a, of_b) = (sleep(&a), Arc::new(sleep(&b)));
    let exits = Arc::new(a.exits(2).unwrap());
    exits.add(&of_a, 1).unwrap();
    let first = Arc::new(trivial(&a));
    let (runs, seen_running) = mpsc::channel();
    let (done, x_done) = mpsc::channel();
    let x_exits = Arc::clone(&exits);
    let x = first
        .on_exit(move |_| {
            runs.send(()).unwrap();
            // What A brings is fetched by another thread; only B's is left then.
            while let Ok(Some(_)) = x_exits.recv() {}
            done.send(()).unwrap();
        })
        .unwrap();
    seen_running.recv().unwrap();
    // It waits by now, or will: B's exit comes to be awaited meanwhile.
    thread::sleep(std::time::Duration::from_millis(20));
    exits.add(&of_b, 2).unwrap();
    let _ = of_a.kill();
    let of_y = trivial(&b);
    let (done, y_done) = mpsc::channel();
    of_y.on_exit(move |_| {
        let _ = first.cancel(x);
        done.send(()).unwrap();
    })
    .unwrap();
    y_done.recv_timeout(FOREVER).expect("nothing hangs");
    let _ = of_b.kill();
    x_done.recv_timeout(FOREVER).expect("nothing hangs");
}

#[test]
fn a_waker_may_drop_the_watcher_while_a_callback_waits_for_its_ring_thread() {
    struct Drops(Mutex<Option<Arc<Watcher>>>, Mutex<mpsc::Sender<()>>);
    impl Wake for Drops {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
            let _ = self.1.lock().unwrap().send(());
        }
    }
    let watcher = Arc::new(Watcher::builder().workers(1).build().unwrap());
    let long = sleep(&watcher);
    let released = watcher
        .spawn(Command::new("cat").stdin(std::process::Stdio::piped()))
        .unwrap();
    let first = trivial(&watcher);
    let (began, runs) = mpsc::channel();
    let (waited, callback_done) = mpsc::channel();
    first
        .on_exit(move |_| {
            began.send(()).unwrap();
            waited.send(long.wait().map(|exit| exit.outcome())).unwrap();
        })
        .unwrap();
    runs.recv().unwrap();
    let (dropped, seen) = mpsc::channel();
    let drops = Drops(Mutex::new(Some(Arc::clone(&watcher))), Mutex::new(dropped));
    let waker = Waker::from(Arc::new(drops));
    let mut future = pin!(released.exited());
    assert!(
        future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    drop(watcher);
    let _ = released.kill();
    seen.recv_timeout(FOREVER).expect("the drop returns");
    let waited = callback_done.recv_timeout(FOREVER);
    waited
        .expect("the wait returns")
        .expect_err("its watcher is gone");
}

thread_local! {
    /// Dropped when its thread ends, with what other crates keep per thread gone already or not.
    static KEPT: RefCell<Vec<Box<dyn std::any::Any>>> = const { RefCell::new(Vec::new()) };
}

/// Ends a thread with `last` in a thread-local.
fn end_thread_with(last: Box<dyn std::any::Any + Send>) {
    thread::spawn(move || KEPT.with_borrow_mut(|kept| kept.push(last)))
        .join()
        .expect("no panic, no abort");
}

#[test]
fn handles_may_be_dropped_cancelled_and_waited_for_while_a_threads_locals_are_destroyed() {
    /// Does something when it is dropped.
    struct AtEnd<F: FnMut()>(F);
    impl<F: FnMut()> Drop for AtEnd<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    let watcher = Arc::new(Watcher::new().unwrap());
    end_thread_with(Box::new(Watcher::new().unwrap()));
    end_thread_with(Box::new(ChildPidWatcher::new()));
    end_thread_with(Box::new(watcher.watch(std::process::id()).unwrap()));

    let ended = Arc::new(Mutex::new(0));
    let (counted, theirs) = (Arc::clone(&ended), Arc::clone(&watcher));
    end_thread_with(Box::new(AtEnd(move || {
        let child = trivial(&theirs);
        child.wait().expect("it ends");
        let exits = theirs.exits(1).expect("there is a descriptor");
        exits.add(&child, 7).expect("there is room");
        assert!(exits.recv().expect("it comes").is_some());
        let lives = sleep(&theirs);
        let id = lives.on_exit(|_| ()).expect("it is taken");
        assert_eq!(lives.cancel(id), exitring::Cancel::Cancelled);
        let own = Watcher::new().expect("a watcher can be built");
        drop(own);
        *counted.lock().unwrap() += 1;
    })));
    assert_eq!(*ended.lock().unwrap(), 1);
}

#[test]
fn a_workers_locals_may_hold_what_that_worker_would_wait_for() {
    // Kept by the worker itself, and dropped at its end: its own watcher's watch, and another watcher.
    let watcher = Watcher::new().unwrap();
    let other = Arc::new(Watcher::new().unwrap());
    let child = trivial(&watcher);
    let (done, ran) = mpsc::channel();
    let theirs = Arc::clone(&other);
    let own = watcher.watch(std::process::id()).unwrap();
    let callback = child.on_exit(move |_| {
        KEPT.with_borrow_mut(|kept| {
            kept.push(Box::new(theirs));
            kept.push(Box::new(own));
        });
        done.send(()).unwrap();
    });
    callback.unwrap();
    ran.recv().unwrap();
    drop(other);
    let (dropped, seen) = mpsc::channel();
    thread::spawn(move || {
        drop(watcher);
        dropped.send(()).unwrap();
    });
    seen.recv_timeout(FOREVER).expect("the drop returns");
}

#[test]
fn unregistering_callbacks_of_two_watchers_from_each_other_returns() {
    let [a, b] = [(); 2].map(|()| Arc::new(ChildPidWatcher::new()));
    let mut children = [(); 2].map(|()| Command::new("true").spawn().unwrap());
    let pids = [0, 1].map(|i: usize| Pid::try_from(children[i].id()).unwrap());
    let both = Arc::new(Barrier::new(2));
    let (done, both_done) = mpsc::channel();
    let handles = Arc::new(Mutex::new([None; 2]));
    a.register_pid(pids[0]);
    b.register_pid(pids[1]);
    let held = handles.lock().unwrap();
    let register = |mine: &Arc<ChildPidWatcher>, theirs: &Arc<ChildPidWatcher>, i: usize| {
        let (theirs, both, done) = (Arc::clone(theirs), Arc::clone(&both), done.clone());
        let handles = Arc::clone(&handles);
        mine.register_callback(pids[i], move |_| {
            let their_handle = handles.lock().unwrap()[1 - i].unwrap();
            both.wait();
            theirs.unregister_callback(pids[1 - i], their_handle);
            done.send(()).unwrap();
        })
    };
    let registered = [register(&a, &b, 0), register(&b, &a, 1)];
    let mut held = held;
    *held = registered.map(Some);
    drop(held);
    for _ in 0..2 {
        both_done.recv_timeout(FOREVER).expect("nothing hangs");
    }
    for child in &mut children {
        child.wait().unwrap();
    }
}

#[test]
fn the_drop_of_a_watcher_is_not_kept_up_by_a_callback_that_reads_a_childs_output() {
    let watcher = Arc::new(Watcher::new().unwrap());
    let first = trivial(&watcher);
    let mut command = Command::new("sleep");
    command.arg("1000").stdout(std::process::Stdio::piped());
    let child = watcher.spawn(&mut command).unwrap();
    let pid = child.pid().as_raw();
    let (reads, seen) = mpsc::channel();
    let (done, read) = mpsc::channel();
    first
        .on_exit(move |_| {
            reads.send(()).unwrap();
            done.send(child.wait_with_output().is_err()).unwrap();
        })
        .unwrap();
    seen.recv().unwrap();
    let (dropped, returned) = mpsc::channel();
    thread::spawn(move || {
        drop(Arc::into_inner(watcher).expect("the only one"));
        dropped.send(()).unwrap();
    });
    returned.recv_timeout(FOREVER).expect("the drop returns");
    assert_eq!(read.recv_timeout(FOREVER), Ok(true));
    // SAFETY: it is nobody's to reap but the library's, which looks now and then.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}
