use super::*;
use crate::record::{Ownership, WatchFor};
use crate::types::pid::Pid;
use rustix::event::{EventfdFlags, eventfd};

fn mailbox() -> Mailbox {
    let notifier = eventfd(0, EventfdFlags::CLOEXEC).expect("a descriptor can be had");
    Mailbox::new(notifier, 64)
}

#[test]
fn the_reader_sleeps_only_if_nothing_awaits_it() {
    let mailbox = mailbox();
    assert!(mailbox.may_sleep());
    mailbox.wake_reader();
    assert!(!mailbox.may_sleep());
    assert!(!mailbox.take(&mut VecDeque::new()));
    assert!(mailbox.may_sleep());
    assert!(mailbox.send(Command::Panic).is_ok());
    assert!(!mailbox.may_sleep());
    let mut commands = VecDeque::new();
    mailbox.take(&mut commands);
    assert_eq!(commands.len(), 1);
    assert!(mailbox.may_sleep());
}

#[test]
fn taking_commands_does_not_clear_a_stop_request() {
    let mailbox = mailbox();
    mailbox.request_stop();
    mailbox.take(&mut VecDeque::new());
    assert!(!mailbox.may_sleep());
}

#[test]
fn the_eventfd_is_written_once_for_a_sleeper_and_never_for_a_running_reader() {
    let mailbox = mailbox();
    let writes = || {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let (notifier, now) = (mailbox.notifier(), Timespec::default());
        let mut fds = [PollFd::new(&*notifier, PollFlags::IN)];
        if poll(&mut fds, Some(&now)) == Ok(0) {
            return 0;
        }
        let mut count = [0; 8];
        rustix::io::read(&*notifier, &mut count).expect("it is readable");
        u64::from_ne_bytes(count)
    };
    mailbox.wake_reader();
    assert_eq!(writes(), 0);
    mailbox.take(&mut VecDeque::new());
    assert!(mailbox.may_sleep());
    for _ in 0..3 {
        assert!(mailbox.send(Command::Panic).is_ok());
    }
    assert_eq!(writes(), 1);
}

#[test]
fn a_flush_ends_when_earlier_commands_are_carried_out_or_the_mailbox_closes() {
    for close in [false, true] {
        let mailbox = mailbox();
        assert!(mailbox.send(Command::Panic).is_ok());
        std::thread::scope(|scope| {
            let flusher = scope.spawn(|| mailbox.flush(Duration::from_secs(60)));
            let mut commands = VecDeque::new();
            while !mailbox.take(&mut commands) {
                commands.clear();
                std::thread::yield_now();
            }
            assert!(!flusher.is_finished());
            match close {
                true => drop(mailbox.close()),
                false => mailbox.acknowledge(0),
            }
            flusher.join().expect("no panic");
        });
        assert_eq!(mailbox.send(Command::Panic).is_ok(), !close);
    }
}

#[test]
fn an_eighth_of_the_descriptors_is_the_budget_and_other_commands_are_free() {
    let mailbox = mailbox();
    for _ in 0..100 {
        assert!(mailbox.send(Command::Panic).is_ok());
    }
    for _ in 0..8 {
        assert!(!mailbox.is_over_descriptor_budget());
        let record = Record::new(
            Pid::new(1).expect("a pid"),
            Ownership::NotChild,
            WatchFor::Exited,
        );
        let pidfd = eventfd(0, EventfdFlags::CLOEXEC).expect("a descriptor can be had");
        assert!(
            mailbox
                .watch(DeliveryGuard::new(Arc::new(record)), pidfd)
                .is_ok()
        );
    }
    assert!(mailbox.is_over_descriptor_budget());
    assert_eq!(mailbox.pidfds(), 8);
    drop(mailbox.close());
    assert_eq!(mailbox.pidfds(), 0);
}

#[test]
fn commands_left_over_come_before_new_ones() {
    let mailbox = mailbox();
    assert!(mailbox.send(Command::Panic).is_ok());
    let mut commands = VecDeque::new();
    mailbox.take(&mut commands);
    assert!(mailbox.send(Command::Panic).is_ok());
    mailbox.take(&mut commands);
    assert_eq!(commands.len(), 1);
    commands.clear();
    mailbox.take(&mut commands);
    assert_eq!(commands.len(), 1);
}

#[test]
fn a_flush_with_a_short_timeout_ends_early() {
    let mailbox = mailbox();
    assert!(mailbox.send(Command::Panic).is_ok());
    mailbox.flush(Duration::from_millis(1));
    let mut commands = VecDeque::new();
    mailbox.take(&mut commands);
    assert_eq!(commands.len(), 1);
}
