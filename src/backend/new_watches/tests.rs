use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::*;
use crate::backend::engine::{Engine, WaitMode};
use crate::backend::stop::Stop;
use crate::record::{Record, WatchFor};
use crate::{Pid, sys};

/// An engine, and the eventfd that it polls. `None` where io_uring is denied.
fn engine() -> Option<(Uring, OwnedFd)> {
    let notifier = eventfd(0, EventfdFlags::CLOEXEC).expect("a descriptor is free");
    let engine = Uring::open(notifier.as_fd(), Arc::<Stop>::default()).ok()?;
    Some((engine, notifier))
}

/// A process that ends when its standard input is closed.
fn cat() -> Child {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped());
    command.spawn().expect("cat starts")
}

fn end(mut child: Child) {
    drop(child.stdin.take());
    child.wait().expect("it is not reaped yet");
}

/// Registers a child like a caller during a short sleep.
fn insert(engine: &mut Uring, child: &Child, ownership: Ownership) -> Arc<Record> {
    let pid = Pid::try_from(child.id()).expect("a pid");
    let record = Arc::new(Record::new(pid, ownership, WatchFor::Exited));
    let pidfd = sys::pidfd_open(pid).expect("a descriptor is free");
    let pidfds = engine.new_watches.pidfds().expect("it was opened");
    let added = pidfds.add(pidfd.as_fd(), WatchFor::Exited);
    added.expect("it is a pidfd");
    let guard = DeliveryGuard::new(Arc::clone(&record));
    Uring::insert_new(engine, guard, pidfd).expect("the ring works");
    record
}

/// Waits, and does with new pidfds what the ring thread does.
fn wait_for_event(engine: &mut Uring) -> Event {
    let mut events = Vec::new();
    while events.is_empty() {
        let timeout = Some(Duration::from_secs(60));
        let waited = Engine::wait(engine, WaitMode::One, timeout, &mut events);
        waited.expect("the ring works");
        Uring::read_new_pidfds(engine);
        Uring::end_new(engine, true, &mut events).expect("the ring works");
    }
    assert_eq!(events.len(), 1);
    events.remove(0)
}

/// The guard closes the record of a process that is ours, and the orphan reaper would reap it.
fn finish(event: Event) -> StatusSource {
    match event {
        Event::Ended(guard, source) => {
            guard.done();
            source
        }
        Event::Disarmed => panic!("the process ended"),
    }
}

#[test]
fn the_end_of_a_new_watch_is_seen_before_it_is_armed() {
    let Some((mut engine, _notifier)) = engine() else {
        return;
    };
    for ownership in [Ownership::Owned, Ownership::Child] {
        let child = cat();
        insert(&mut engine, &child, ownership);
        assert_eq!((engine.gauges().armed, engine.gauges().open_pidfds), (0, 1));
        let source = end_and_see(child, &mut engine);
        match ownership {
            Ownership::Owned => {
                assert!(matches!(source, StatusSource::Owned { pidfd: Some(_), .. }));
            }
            _ => assert!(matches!(source, StatusSource::Pidfd(_))),
        }
        assert!(!Uring::has_new(&engine));
        assert_eq!(engine.gauges().open_pidfds, 0);
    }
}

#[test]
fn a_new_watch_that_was_armed_holds_no_descriptor_and_its_end_is_seen() {
    let Some((mut engine, _notifier)) = engine() else {
        return;
    };
    let child = cat();
    insert(&mut engine, &child, Ownership::Owned);
    engine.arm_all_new().expect("the ring works");
    assert_eq!((engine.gauges().armed, engine.gauges().open_pidfds), (1, 0));
    let source = end_and_see(child, &mut engine);
    assert!(matches!(source, StatusSource::Owned { pidfd: None, .. }));
}

/// Ends a child, and waits for the event.
fn end_and_see(mut child: Child, engine: &mut Uring) -> StatusSource {
    drop(child.stdin.take());
    let source = finish(wait_for_event(engine));
    end(child);
    source
}

#[test]
fn more_new_watches_than_allowed_arm_those_before() {
    let Some((mut engine, _notifier)) = engine() else {
        return;
    };
    engine.new_watches.max = 2;
    let children = [cat(), cat(), cat()];
    for child in &children {
        insert(&mut engine, child, Ownership::Owned);
    }
    assert_eq!((engine.gauges().armed, engine.gauges().open_pidfds), (2, 1));
    for child in children {
        drop(end_and_see(child, &mut engine));
    }
    assert_eq!((engine.gauges().armed, engine.gauges().open_pidfds), (0, 0));
}

#[test]
fn an_abandoned_new_watch_is_removed() {
    let Some((mut engine, _notifier)) = engine() else {
        return;
    };
    let child = cat();
    // On request, when all are armed, and when its process has ended.
    for step in 0..3 {
        let record = insert(&mut engine, &child, Ownership::Child);
        assert!(record.drop_handle());
        let mut events = Vec::new();
        match step {
            0 => engine.disarm(&record).expect("the ring works"),
            1 => engine.arm_all_new().expect("the ring works"),
            _ => {
                let key = engine.new_watches.watches[0].1;
                engine
                    .end_one_new(key, &mut events)
                    .expect("the ring works");
            }
        }
        events.append(&mut engine.pending_events);
        assert!(matches!(events[..], [Event::Disarmed]), "step {step}");
        assert!(engine.new_watches.is_empty());
        assert_eq!(engine.gauges().open_pidfds, 0);
    }
    end(child);
}

#[test]
fn a_pidfd_whose_command_was_not_carried_out_yet_is_read_again() {
    let Some((mut engine, _notifier)) = engine() else {
        return;
    };
    let mut child = cat();
    let pid = Pid::try_from(child.id()).expect("a pid");
    let pidfd = sys::pidfd_open(pid).expect("a descriptor is free");
    let pidfds = engine.new_watches.pidfds().expect("it was opened");
    pidfds
        .add(pidfd.as_fd(), WatchFor::Exited)
        .expect("it fits");
    drop(child.stdin.take());
    let mut events = Vec::new();
    while !engine.new_watches.is_readable() {
        let waited = Engine::wait(&mut engine, WaitMode::One, None, &mut events);
        waited.expect("the ring works");
    }
    // The command is left for the next turn.
    engine.read_new_pidfds();
    engine.end_new(false, &mut events).expect("the ring works");
    assert!(events.is_empty() && engine.new_watches.is_readable());
    let record = Arc::new(Record::new(pid, Ownership::Child, WatchFor::Exited));
    engine.read_new_pidfds();
    let guard = DeliveryGuard::new(record);
    Uring::insert_new(&mut engine, guard, pidfd).expect("the ring works");
    engine.end_new(true, &mut events).expect("the ring works");
    assert!(matches!(events[..], [Event::Ended(..)]));
    end(child);
}

#[test]
fn a_few_percent_of_the_descriptors_are_for_new_watches() {
    assert_eq!(new_watches_max(0), 2);
    assert_eq!(new_watches_max(64), 4);
    assert_eq!(new_watches_max(1024), 64);
    assert_eq!(new_watches_max(u64::MAX), 64);
}
