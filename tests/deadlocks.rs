//! Blocking calls in callbacks and wakers that wait for each other: each call returns.

mod common;

use std::future::Future;
use std::os::unix::process::CommandExt;
use std::pin::pin;
use std::process::Command;
use std::process::Stdio;
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use common::*;
use exitring::compat::ChildPidWatcher;
use exitring::{CallbackId, Child, Exits, Pid, Watch, Watcher};

/// What a callback of watcher A has of watcher B: a running process, a running callback, and the
/// watcher itself.
struct HandlesOfB {
    running: Arc<Child>,
    exits: Exits,
    /// Its deadline ends it after a second, or else the drop of its handle does.
    piped: Mutex<Option<Child>>,
    callback: (Arc<Watch>, CallbackId),
    watcher: Mutex<Option<Watcher>>,
    compat: Mutex<Option<ChildPidWatcher>>,
}

/// What callback X does.
type Call = fn(&HandlesOfB);
/// What callback Y does, which waits for callback X.
type WaitForCallback = fn(&mut Option<Watcher>, &Watch, CallbackId);

/// Every blocking call of the public API. The unit tests of the wait graph have the same list.
const BLOCKING_CALLS: &[(&str, Call)] = &[
    ("Watch::wait", |b| drop(b.running.wait())),
    ("Watch::wait_timeout", |b| {
        drop(b.running.wait_timeout(2 * TEST_TIMEOUT));
    }),
    ("Child::wait_with_output", |b| {
        let piped = b.piped.lock().unwrap().take();
        let _ = piped.map(Child::wait_with_output);
    }),
    ("Exits::recv", |b| drop(b.exits.recv())),
    ("Exits::recv_timeout", |b| {
        drop(b.exits.recv_timeout(2 * TEST_TIMEOUT));
    }),
    ("Exits::recv_batch", |b| {
        let _ = b.exits.recv_batch(&mut Vec::new(), 8);
    }),
    ("Watch::cancel", |b| {
        let _ = b.callback.0.cancel(b.callback.1);
    }),
    ("the drop of a Watcher", |b| {
        drop(b.watcher.lock().unwrap().take());
    }),
    ("the drop of a ChildPidWatcher", |b| {
        drop(b.compat.lock().unwrap().take());
    }),
    ("Watcher::watch", |b| {
        if let Some(watcher) = &*b.watcher.lock().unwrap() {
            drop(watcher.watch(std::process::id()));
        }
    }),
];

/// The calls by which callback Y, on the ring thread of watcher B, can wait for callback X.
const WAITS_FOR_CALLBACK: &[(&str, WaitForCallback)] = &[
    ("cancel", |_, watch, callback| {
        let _ = watch.cancel(callback);
    }),
    ("drop", |watcher, _, _| drop(watcher.take())),
];

/// Callback X, on a worker of watcher A, makes the call. Callback Y, on the ring thread of watcher
/// B, waits for X.
fn run_two_watchers(call: Call, waits_for_x: WaitForCallback, y_first: bool) {
    let a = Watcher::builder().workers(1).build().unwrap();
    let b = Watcher::builder().workers(0).build().unwrap();
    let running = Arc::new(spawn_sleep(&b));
    let exits = b.exits(1).unwrap();
    exits.add(&running, 1).unwrap();
    // The test reaps this child: B watches it and does not own it.
    let mut child_of_y = Command::new("true").spawn().unwrap();
    let watch_of_y = Arc::new(b.watch(child_of_y.id()).unwrap());
    let watch_of_x = Arc::new(spawn_true(&a));
    let a = Arc::new(Mutex::new(Some(a)));
    let (x_runs, runs) = mpsc::channel();
    let y_runs = x_runs.clone();
    let (x_done, done) = mpsc::channel();
    let y_done = x_done.clone();

    let (x_id_sender, x_id) = mpsc::channel();
    let (start_y, y_starts) = mpsc::channel::<()>();
    let watch_of_x_for_y = Arc::clone(&watch_of_x);
    let y_id = watch_of_y
        .on_exit(move |_| {
            let x = x_id.recv().unwrap();
            y_runs.send(()).unwrap();
            y_starts.recv().unwrap();
            waits_for_x(&mut a.lock().unwrap(), &watch_of_x_for_y, x);
            y_done.send(()).unwrap();
        })
        .unwrap();

    let mut piped = b.spawn(sleep().stdout(Stdio::piped())).unwrap();
    piped.kill_on_drop(true);
    piped
        .deadline(Duration::from_secs(1), Duration::ZERO)
        .unwrap();
    let handles = HandlesOfB {
        running: Arc::clone(&running),
        exits,
        piped: Mutex::new(Some(piped)),
        callback: (watch_of_y, y_id),
        watcher: Mutex::new(Some(b)),
        compat: Mutex::new(Some(ChildPidWatcher::new())),
    };
    let (start_x, x_starts) = mpsc::channel::<()>();
    let x = watch_of_x
        .on_exit(move |_| {
            x_runs.send(()).unwrap();
            x_starts.recv().unwrap();
            call(&handles);
            x_done.send(()).unwrap();
            // The captures, and B with them, are dropped here, on this thread.
        })
        .unwrap();
    x_id_sender.send(x).unwrap();
    for _ in 0..2 {
        receive(&runs);
    }

    let order = [start_x, start_y];
    let (first, second) = if y_first { (1, 0) } else { (0, 1) };
    order[first].send(()).unwrap();
    // The first call is probably blocked after this. If not, the two race, and must return as well.
    thread::sleep(Duration::from_millis(20));
    order[second].send(()).unwrap();
    for _ in 0..2 {
        // If X called first, it waits for this process.
        let _ = running.kill();
        receive(&done);
    }
    child_of_y.wait().unwrap();
}

#[test]
fn every_blocking_call_returns_in_a_cycle_of_waits() {
    for (name, call) in BLOCKING_CALLS {
        for (wait, waits_for_x) in WAITS_FOR_CALLBACK {
            for y_first in [false, true] {
                eprintln!("{name}, {wait}, the ring thread first: {y_first}");
                run_two_watchers(*call, *waits_for_x, y_first);
            }
        }
    }
}

#[test]
fn recv_returns_in_a_cycle_through_any_watcher_whose_exit_it_awaits() {
    // Callback X of A waits for exits of A and of B. B's ring thread waits for X.
    let a = Watcher::new().unwrap();
    let b = Watcher::builder().workers(0).build().unwrap();
    let (child_of_a, child_of_b) = (spawn_sleep(&a), Arc::new(spawn_sleep(&b)));
    let exits = Arc::new(a.exits(2).unwrap());
    exits.add(&child_of_a, 1).unwrap();
    let watch_of_x = Arc::new(spawn_true(&a));
    let (sender, x_runs) = mpsc::channel();
    let (done, x_done) = mpsc::channel();
    let x_exits = Arc::clone(&exits);
    let x = watch_of_x
        .on_exit(move |_| {
            sender.send(()).unwrap();
            // Receives the exit of A, and then waits for that of B only.
            while let Ok(Some(_)) = x_exits.recv() {}
            done.send(()).unwrap();
        })
        .unwrap();
    receive(&x_runs);
    // X is probably blocked after this. B's exit becomes outstanding meanwhile.
    thread::sleep(Duration::from_millis(20));
    exits.add(&child_of_b, 2).unwrap();
    let _ = child_of_a.kill();
    let watch_of_y = spawn_true(&b);
    let (done, y_done) = mpsc::channel();
    watch_of_y
        .on_exit(move |_| {
            let _ = watch_of_x.cancel(x);
            done.send(()).unwrap();
        })
        .unwrap();
    receive(&y_done);
    let _ = child_of_b.kill();
    receive(&x_done);
}

#[test]
fn a_waker_may_drop_the_watcher_while_a_callback_waits_for_its_ring_thread() {
    struct DropWatcherWaker {
        watcher: Mutex<Option<Arc<Watcher>>>,
        dropped: Mutex<mpsc::Sender<()>>,
    }
    impl Wake for DropWatcherWaker {
        fn wake(self: Arc<Self>) {
            drop(self.watcher.lock().unwrap().take());
            let _ = self.dropped.lock().unwrap().send(());
        }
    }
    let watcher = Arc::new(Watcher::builder().workers(1).build().unwrap());
    let running = spawn_sleep(&watcher);
    let killed = watcher
        .spawn(Command::new("cat").stdin(Stdio::piped()))
        .unwrap();
    let ended = spawn_true(&watcher);
    let (sender, callback_runs) = mpsc::channel();
    let (result_sender, result) = mpsc::channel();
    ended
        .on_exit(move |_| {
            sender.send(()).unwrap();
            let outcome = running.wait().map(|exit| exit.outcome());
            result_sender.send(outcome).unwrap();
        })
        .unwrap();
    receive(&callback_runs);
    let (sender, dropped) = mpsc::channel();
    let waker = Waker::from(Arc::new(DropWatcherWaker {
        watcher: Mutex::new(Some(Arc::clone(&watcher))),
        dropped: Mutex::new(sender),
    }));
    let mut future = pin!(killed.exited());
    let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop(watcher);
    let _ = killed.kill();
    receive(&dropped);
    receive(&result).expect_err("the watcher is dropped");
}

#[test]
fn two_compat_callbacks_that_unregister_each_other_both_return() {
    let [a, b] = [(); 2].map(|()| Arc::new(ChildPidWatcher::new()));
    let mut children = [(); 2].map(|()| Command::new("true").spawn().unwrap());
    let pids = [0, 1].map(|i: usize| Pid::try_from(children[i].id()).unwrap());
    let both_run = Arc::new(Barrier::new(2));
    let (sender, done) = mpsc::channel();
    let handles = Arc::new(Mutex::new([None; 2]));
    a.register_pid(pids[0]);
    b.register_pid(pids[1]);
    // The callbacks wait for this lock until both are registered.
    let mut locked = handles.lock().unwrap();
    let register = |own: &Arc<ChildPidWatcher>, other: &Arc<ChildPidWatcher>, i: usize| {
        let (other, both_run, sender) = (Arc::clone(other), Arc::clone(&both_run), sender.clone());
        let handles = Arc::clone(&handles);
        own.register_callback(pids[i], move |_| {
            let other_handle = handles.lock().unwrap()[1 - i].unwrap();
            both_run.wait();
            other.unregister_callback(pids[1 - i], other_handle);
            sender.send(()).unwrap();
        })
    };
    *locked = [register(&a, &b, 0), register(&b, &a, 1)].map(Some);
    drop(locked);
    for _ in 0..2 {
        receive(&done);
    }
    for child in &mut children {
        child.wait().unwrap();
    }
}

#[test]
fn dropping_a_watcher_is_not_delayed_by_a_callback_that_reads_a_childs_output() {
    // The child lives, or has ended and left a process with its output.
    for script in ["exec sleep 1000", "sleep 1000 & exit"] {
        let watcher = Arc::new(Watcher::new().unwrap());
        drop_while_a_callback_reads(Arc::clone(&watcher), watcher, script);
        let other = Arc::new(Watcher::new().unwrap());
        drop_while_a_callback_reads(Arc::new(Watcher::new().unwrap()), other, script);
    }
}

fn drop_while_a_callback_reads(watcher: Arc<Watcher>, of_child: Arc<Watcher>, script: &str) {
    let ended = spawn_true(&watcher);
    let mut command = sh(script);
    command.stdout(Stdio::piped()).process_group(0);
    let child = of_child.spawn(&mut command).unwrap();
    // Unless it is the same one, it lives until the end.
    let of_child = (!Arc::ptr_eq(&watcher, &of_child)).then_some(of_child);
    if script.ends_with("exit") {
        child.wait().unwrap();
    }
    let pid = child.pid().as_raw();
    let (sender, callback_runs) = mpsc::channel();
    let (result_sender, failed) = mpsc::channel();
    ended
        .on_exit(move |_| {
            sender.send(()).unwrap();
            result_sender
                .send(child.wait_with_output().is_err())
                .unwrap();
        })
        .unwrap();
    receive(&callback_runs);
    let (sender, dropped) = mpsc::channel();
    thread::spawn(move || {
        drop(Arc::into_inner(watcher).expect("no other reference"));
        sender.send(()).unwrap();
    });
    receive(&dropped);
    assert!(receive(&failed));
    // SAFETY: no pointers. The sleeping process is in the group, so no other has the number.
    unsafe { libc::kill(-pid, libc::SIGKILL) };
    drop(of_child);
}
