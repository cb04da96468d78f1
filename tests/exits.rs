//! Exits received from a queue.

mod common;

use std::collections::HashSet;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use common::*;
use exitring::{
    AddError, BuildError, Child, Closed, Outcome, RecvError, RecvTimeoutError, Tagged,
    TryRecvError, Watcher,
};

fn spawn(watcher: &Watcher, code: i32) -> Child {
    watcher.spawn(&mut sh(&format!("exit {code}"))).unwrap()
}

/// Spawns a child that runs until its standard input is closed.
fn spawn_waiting(watcher: &Watcher) -> Child {
    watcher
        .spawn(sh("read line").stdin(Stdio::piped()))
        .unwrap()
}

#[test]
fn each_exit_is_delivered_once_with_its_tag_even_if_its_watch_is_dropped() {
    each_worker_count(|watcher| {
        let exits = watcher.exits(100).unwrap();
        for code in 0..100 {
            exits.add(&spawn(&watcher, code), code as u64).unwrap();
        }
        let mut tags = HashSet::new();
        while let Some(tagged) = exits.recv().unwrap() {
            assert_eq!(tagged.exit.outcome(), Outcome::Exited(tagged.tag as i32));
            assert!(tags.insert(tagged.tag));
        }
        assert_eq!(tags.len(), 100);
        assert_eq!(exits.outstanding(), 0);
        assert_eq!(exits.try_recv(), Ok(None));
        let end = exits.recv_timeout(TEST_TIMEOUT);
        assert_eq!(end, Ok(None), "nothing is outstanding");
    });
}

#[test]
fn a_process_that_ended_before_the_add_is_delivered_once_for_each_add() {
    let watcher = Watcher::new().unwrap();
    let child = zombie(9);
    let watch = watcher.watch(child.pid()).unwrap();
    watch.wait().unwrap();
    let exits = watcher.exits(2).unwrap();
    exits.add(&watch, 1).unwrap();
    exits.add(&watch, 2).unwrap();
    let mut batch = Vec::new();
    assert_eq!(exits.recv_batch(&mut batch, 10), Ok(2));
    assert_eq!(
        batch.iter().map(|tagged| tagged.tag).collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(exits.recv_batch(&mut batch, 10), Ok(0));
}

#[test]
fn watches_beyond_the_capacity_are_refused_until_some_exits_are_received() {
    let watcher = Watcher::new().unwrap();
    let exits = watcher.exits(2).unwrap();
    let (first, second, third) = (
        spawn(&watcher, 1),
        spawn_waiting(&watcher),
        spawn(&watcher, 3),
    );
    exits.add(&first, 1).unwrap();
    exits.add(&second, 2).unwrap();
    assert_eq!(exits.add(&third, 3), Err(AddError::Full { capacity: 2 }));
    assert_eq!(exits.recv().unwrap().unwrap().tag, 1);
    exits.add(&third, 3).unwrap();
    assert_eq!(exits.recv().unwrap().unwrap().tag, 3);
    let soon = Duration::from_millis(20);
    assert_eq!(exits.recv_timeout(soon), Err(RecvTimeoutError::Timeout));
    drop(second);
    assert_eq!(exits.recv().unwrap().unwrap().tag, 2);
}

#[test]
fn a_capacity_of_zero_is_refused() {
    let watcher = Watcher::new().unwrap();
    match watcher.exits(0) {
        Err(BuildError::Option { option, .. }) => assert_eq!(option, "capacity"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn several_threads_may_receive_the_exits() {
    let watcher = Watcher::new().unwrap();
    let exits = watcher.exits(200).unwrap();
    for tag in 0..200 {
        exits.add(&spawn(&watcher, 0), tag).unwrap();
    }
    let received: Vec<u64> = std::thread::scope(|scope| {
        let receive_all = || {
            let mut tags = Vec::new();
            while let Some(tagged) = exits.recv().unwrap() {
                tags.push(tagged.tag);
            }
            tags
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(receive_all)).collect();
        let tags = threads.into_iter().map(|thread| thread.join().unwrap());
        tags.flatten().collect()
    });
    assert_eq!(received.len(), 200);
    assert_eq!(HashSet::<u64>::from_iter(received).len(), 200);
}

#[test]
fn the_descriptor_is_readable_exactly_while_an_exit_is_queued() {
    let watcher = Watcher::new().unwrap();
    let exits = watcher.exits(10).unwrap();
    let readable = |timeout: Duration| {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let timeout = Timespec::try_from(timeout).unwrap();
        let mut fds = [PollFd::new(&exits, PollFlags::IN)];
        poll(&mut fds, Some(&timeout)).unwrap() > 0
    };
    for _ in 0..3 {
        let child = spawn_waiting(&watcher);
        exits.add(&child, 0).unwrap();
        exits.add(&child, 1).unwrap();
        assert!(!readable(Duration::from_millis(10)));
        drop(child);
        assert!(readable(TEST_TIMEOUT));
        until("both are received", || {
            let _ = exits.try_recv();
            exits.outstanding() == 0
        });
        assert!(!readable(Duration::ZERO));
    }
}

#[test]
fn dropping_the_watcher_is_reported_once_after_the_queued_exits() {
    let watcher = Watcher::new().unwrap();
    let exits = watcher.exits(10).unwrap();
    let (ended, mut runs) = (spawn(&watcher, 1), spawn_waiting(&watcher));
    runs.kill_on_drop(true);
    ended.wait().unwrap();
    exits.add(&ended, 1).unwrap();
    exits.add(&runs, 2).unwrap();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let first = exits.recv();
            (first, exits.recv(), exits.recv())
        });
        std::thread::sleep(Duration::from_millis(10));
        drop(watcher);
        let (first, second, third) = receiver.join().unwrap();
        assert_eq!(first.unwrap().unwrap().tag, 1);
        assert_eq!(second, Err(RecvError::Closed(Closed::Dropped)));
        assert_eq!(third, Ok(None));
    });
    assert_eq!(exits.add(&runs, 3), Err(AddError::Closed(Closed::Dropped)));
}

#[test]
fn a_blocking_recv_on_the_ring_thread_is_refused() {
    let watcher = Watcher::builder().workers(0).build().unwrap();
    let exits = watcher.exits(10).unwrap();
    let mut runs = spawn_waiting(&watcher);
    runs.kill_on_drop(true);
    exits.add(&runs, 1).unwrap();
    let (sender, receiver) = mpsc::channel();
    let ended = spawn(&watcher, 0);
    ended
        .on_exit(move |_| sender.send((exits.recv(), exits.try_recv())).unwrap())
        .unwrap();
    let (recv, try_recv) = receive(&receiver);
    assert_eq!(recv, Err(RecvError::WouldDeadlock));
    assert_eq!(try_recv, Err(TryRecvError::Empty));
}

#[test]
fn exits_may_be_dropped_before_their_watches_end() {
    let watcher = Watcher::new().unwrap();
    let exits = watcher.exits(10).unwrap();
    let child = spawn_waiting(&watcher);
    exits.add(&child, 1).unwrap();
    drop(exits);
    drop(child);
    until_stats(&watcher, "the exit is delivered", |stats| {
        stats.delivered == 1
    });
}

#[test]
fn a_dropped_queue_holds_nothing_while_its_processes_live() {
    if !in_own_process() {
        return run_in_own_process(
            "a_dropped_queue_holds_nothing_while_its_processes_live",
            |_| (),
        );
    }
    let watcher = Watcher::new().unwrap();
    let child = spawn_waiting(&watcher);
    let watch = watcher.watch(std::process::id()).unwrap();
    until_stats(&watcher, "both are armed", |stats| stats.armed == 2);
    // What is closed by the ring is closed a moment later.
    let mut before = open_descriptors();
    until("the descriptors are closed", || {
        std::thread::sleep(Duration::from_millis(20));
        let now = open_descriptors();
        std::mem::replace(&mut before, now) == now
    });
    for tag in 0..50 {
        let exits = watcher.exits(2).unwrap();
        exits.add(&child, tag).unwrap();
        exits.add(&watch, tag).unwrap();
        assert_eq!(open_descriptors(), before + 1);
        drop(exits);
        assert_eq!(open_descriptors(), before);
    }
    let exits = watcher.exits(1).unwrap();
    exits.add(&child, 50).unwrap();
    drop(child);
    assert_eq!(exits.recv().unwrap().unwrap().tag, 50);
}

#[test]
fn a_watch_that_only_a_dropped_queue_needed_is_abandoned() {
    let watcher = Watcher::new().unwrap();
    for queue_first in [true, false] {
        let (exits, other) = (watcher.exits(1).unwrap(), watcher.exits(1).unwrap());
        let watch = watcher.watch(std::process::id()).unwrap();
        exits.add(&watch, 1).unwrap();
        other.add(&watch, 1).unwrap();
        drop(other);
        match queue_first {
            true => {
                drop(exits);
                drop(watch);
            }
            false => {
                drop(watch);
                assert_eq!(watcher.stats().watched, 1, "the queue needs it");
                drop(exits);
            }
        }
        until_stats(&watcher, "it is abandoned", |stats| stats.watched == 0);
    }
}

#[test]
fn a_refused_watch_does_not_affect_the_others() {
    let watcher = Watcher::new().unwrap();
    let exits = watcher.exits(2).unwrap();
    let other_watcher = Watcher::new().unwrap();
    let lives = ControlledChild::spawn();
    let refused = other_watcher.watch(lives.pid()).unwrap();
    drop(other_watcher);
    let child = spawn_waiting(&watcher);
    exits.add(&child, 1).unwrap();
    assert_eq!(
        exits.add(&refused, 2),
        Err(AddError::Closed(Closed::Dropped))
    );
    assert_eq!(exits.outstanding(), 1);
    drop(child);
    assert_eq!(exits.recv().unwrap().unwrap().tag, 1);
}

#[test]
fn not_yet_is_distinguished_from_nothing_outstanding() {
    each_worker_count(|watcher| {
        let exits = watcher.exits(2).unwrap();
        assert_eq!(exits.try_recv(), Ok(None));
        assert_eq!(exits.recv_timeout(Duration::ZERO), Ok(None));
        let child = spawn_waiting(&watcher);
        exits.add(&child, 7).unwrap();
        assert_eq!(exits.try_recv(), Err(TryRecvError::Empty));
        let in_time = exits.recv_timeout(Duration::ZERO);
        assert_eq!(in_time, Err(RecvTimeoutError::Timeout));
        drop(child);
        let tagged = exits.recv_timeout(TEST_TIMEOUT).unwrap().unwrap();
        assert_eq!(tagged.tag, 7);
        assert_eq!(exits.try_recv(), Ok(None));
        assert_eq!(exits.recv_timeout(TEST_TIMEOUT), Ok(None));
    });
}

fn tags(exits: impl IntoIterator<Item = Result<Tagged, RecvError>>) -> HashSet<u64> {
    exits
        .into_iter()
        .map(|tagged| tagged.unwrap().tag)
        .collect()
}

#[test]
fn an_iteration_borrowed_or_owned_ends_when_nothing_is_outstanding() {
    let watcher = Watcher::new().unwrap();
    let exits = watcher.exits(10).unwrap();
    let add = |from: u64| {
        for code in from..from + 10 {
            exits.add(&spawn(&watcher, code as i32), code).unwrap();
        }
        HashSet::from_iter(from..from + 10)
    };
    let added: HashSet<u64> = add(0);
    assert_eq!(tags(&exits), added);
    let added: HashSet<u64> = add(10);
    assert_eq!(tags(exits.iter()), added);
    assert_eq!(exits.iter().next(), None);
    let added: HashSet<u64> = add(20);
    assert_eq!(tags(exits), added);
}

#[test]
fn try_iter_ends_when_the_queue_is_empty_and_continues_later() {
    let watcher = Watcher::new().unwrap();
    let exits = watcher.exits(2).unwrap();
    let (ended, waiting) = (spawn(&watcher, 1), spawn_waiting(&watcher));
    ended.wait().unwrap();
    exits.add(&ended, 1).unwrap();
    exits.add(&waiting, 2).unwrap();
    let mut ready = exits.try_iter();
    assert_eq!(ready.next().unwrap().unwrap().tag, 1);
    assert!(ready.next().is_none());
    waiting.wait().unwrap();
    until("the second exit is received", || {
        ready.next().is_some_and(|tagged| tagged.unwrap().tag == 2)
    });
}

#[test]
fn an_iteration_reports_a_dropped_watcher_and_continues() {
    let watcher = Watcher::new().unwrap();
    let other = Watcher::new().unwrap();
    let exits = watcher.exits(3).unwrap();
    let mut lost = spawn_waiting(&other);
    lost.kill_on_drop(true);
    let waiting = spawn_waiting(&watcher);
    exits.add(&lost, 1).unwrap();
    exits.add(&waiting, 2).unwrap();
    drop(other);
    let mut items = exits.iter();
    assert_eq!(items.next(), Some(Err(RecvError::Closed(Closed::Dropped))));
    drop(waiting);
    assert_eq!(items.next().unwrap().unwrap().tag, 2);
    assert_eq!(items.next(), None);
    assert_eq!(items.next(), None);
}

#[test]
fn an_iteration_on_the_ring_thread_ends_after_one_error() {
    let watcher = Watcher::builder().workers(0).build().unwrap();
    let exits = watcher.exits(1).unwrap();
    let mut runs = spawn_waiting(&watcher);
    runs.kill_on_drop(true);
    exits.add(&runs, 1).unwrap();
    let (sender, receiver) = mpsc::channel();
    spawn(&watcher, 0)
        .on_exit(move |_| sender.send(Vec::from_iter(&exits)).unwrap())
        .unwrap();
    assert_eq!(receive(&receiver), [Err(RecvError::WouldDeadlock)]);
}
