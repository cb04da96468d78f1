//! Exits fetched from a queue.

mod common;

use std::collections::HashSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::*;
use exitring::{
    AddError, BuildError, Child, Closed, Outcome, RecvError, RecvTimeoutError, Tagged,
    TryRecvError, Watcher,
};

fn spawn(watcher: &Watcher, code: i32) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exit {code}")]);
    watcher.spawn(&mut command).unwrap()
}

/// Runs until its standard input is closed.
fn spawn_waiting(watcher: &Watcher) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", "read line"]).stdin(Stdio::piped());
    watcher.spawn(&mut command).unwrap()
}

#[test]
fn each_exit_comes_once_with_its_tag_also_of_watches_that_are_gone() {
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
        assert_eq!(exits.recv_timeout(FOREVER), Ok(None), "nothing can come");
    });
}

#[test]
fn a_watch_that_ended_before_is_fetched_too_and_as_often_as_it_was_added() {
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
fn more_than_there_is_room_for_are_refused_until_some_are_fetched() {
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
fn several_threads_share_the_exits() {
    let watcher = Watcher::new().unwrap();
    let exits = watcher.exits(200).unwrap();
    for tag in 0..200 {
        exits.add(&spawn(&watcher, 0), tag).unwrap();
    }
    let fetched: Vec<u64> = std::thread::scope(|scope| {
        let fetch = || {
            let mut tags = Vec::new();
            while let Some(tagged) = exits.recv().unwrap() {
                tags.push(tagged.tag);
            }
            tags
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(fetch)).collect();
        let tags = threads.into_iter().map(|thread| thread.join().unwrap());
        tags.flatten().collect()
    });
    assert_eq!(fetched.len(), 200);
    assert_eq!(HashSet::<u64>::from_iter(fetched).len(), 200);
}

#[test]
fn the_descriptor_is_readable_exactly_while_there_is_something() {
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
        assert!(readable(FOREVER));
        until("both are there", || {
            let _ = exits.try_recv();
            exits.outstanding() == 0
        });
        assert!(!readable(Duration::ZERO));
    }
}

#[test]
fn dropping_the_watcher_is_told_once_after_what_had_come() {
    let watcher = Watcher::new().unwrap();
    let exits = watcher.exits(10).unwrap();
    let (ended, mut runs) = (spawn(&watcher, 1), spawn_waiting(&watcher));
    runs.kill_on_drop(true);
    ended.wait().unwrap();
    exits.add(&ended, 1).unwrap();
    exits.add(&runs, 2).unwrap();
    std::thread::scope(|scope| {
        let fetcher = scope.spawn(|| {
            let first = exits.recv();
            (first, exits.recv(), exits.recv())
        });
        std::thread::sleep(Duration::from_millis(10));
        drop(watcher);
        let (first, second, third) = fetcher.join().unwrap();
        assert_eq!(first.unwrap().unwrap().tag, 1);
        assert_eq!(second, Err(RecvError::Closed(Closed::Dropped)));
        assert_eq!(third, Ok(None));
    });
    assert_eq!(exits.add(&runs, 3), Err(AddError::Closed(Closed::Dropped)));
}

#[test]
fn waiting_for_what_has_not_come_on_the_ring_thread_is_refused() {
    let watcher = Watcher::builder().workers(0).build().unwrap();
    let exits = watcher.exits(10).unwrap();
    let mut runs = spawn_waiting(&watcher);
    runs.kill_on_drop(true);
    exits.add(&runs, 1).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let ended = spawn(&watcher, 0);
    ended
        .on_exit(move |_| sender.send((exits.recv(), exits.try_recv())).unwrap())
        .unwrap();
    let (recv, try_recv) = receive(&receiver);
    assert_eq!(recv, Err(RecvError::WouldDeadlock));
    assert_eq!(try_recv, Err(TryRecvError::Empty));
}

#[test]
fn exits_dropped_before_their_watches_are_of_no_consequence() {
    let watcher = Watcher::new().unwrap();
    let exits = watcher.exits(10).unwrap();
    let child = spawn_waiting(&watcher);
    exits.add(&child, 1).unwrap();
    drop(exits);
    drop(child);
    until_stats(&watcher, "it is over", |stats| stats.delivered == 1);
}

#[test]
fn a_refused_watch_leaves_the_others_alone() {
    let watcher = Watcher::new().unwrap();
    let exits = watcher.exits(2).unwrap();
    let other_watcher = Watcher::new().unwrap();
    let lives = Obedient::spawn();
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
fn not_yet_is_told_from_nothing_outstanding() {
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
        let tagged = exits.recv_timeout(FOREVER).unwrap().unwrap();
        assert_eq!(tagged.tag, 7);
        assert_eq!(exits.try_recv(), Ok(None));
        assert_eq!(exits.recv_timeout(FOREVER), Ok(None));
    });
}

fn tags(exits: impl IntoIterator<Item = Result<Tagged, RecvError>>) -> HashSet<u64> {
    exits
        .into_iter()
        .map(|tagged| tagged.unwrap().tag)
        .collect()
}

#[test]
fn exits_are_iterated_until_nothing_is_outstanding_borrowed_or_owned() {
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
fn an_iterator_that_does_not_wait_ends_where_nothing_has_come_and_goes_on_later() {
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
    until("it is there", || {
        ready.next().is_some_and(|tagged| tagged.unwrap().tag == 2)
    });
}

#[test]
fn an_iteration_reports_a_watcher_that_ended_and_goes_on() {
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
fn an_iteration_on_the_ring_thread_ends_with_its_refusal() {
    let watcher = Watcher::builder().workers(0).build().unwrap();
    let exits = watcher.exits(1).unwrap();
    let mut runs = spawn_waiting(&watcher);
    runs.kill_on_drop(true);
    exits.add(&runs, 1).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    spawn(&watcher, 0)
        .on_exit(move |_| sender.send(Vec::from_iter(&exits)).unwrap())
        .unwrap();
    assert_eq!(receive(&receiver), [Err(RecvError::WouldDeadlock)]);
}
