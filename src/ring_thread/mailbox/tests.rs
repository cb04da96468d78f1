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
    assert!(mailbox.may_sleep(Sleep::Long));
    mailbox.wake_reader();
    assert!(!mailbox.may_sleep(Sleep::Long));
    assert!(!mailbox.take(&mut VecDeque::new()));
    assert!(mailbox.may_sleep(Sleep::Long));
    assert!(mailbox.send(Command::Panic).is_ok());
    assert!(!mailbox.may_sleep(Sleep::Long));
    let mut commands = VecDeque::new();
    mailbox.take(&mut commands);
    assert_eq!(commands.len(), 1);
    assert!(mailbox.may_sleep(Sleep::Long));
}

#[test]
fn taking_commands_does_not_clear_a_stop_request() {
    let mailbox = mailbox();
    mailbox.request_stop();
    mailbox.take(&mut VecDeque::new());
    assert!(!mailbox.may_sleep(Sleep::Long));
}

#[test]
fn the_eventfd_is_written_once_for_a_sleeper_and_never_for_a_running_reader() {
    let mailbox = mailbox();
    let writes = || writes(&mailbox);
    mailbox.wake_reader();
    assert_eq!(writes(), 0);
    mailbox.take(&mut VecDeque::new());
    assert!(mailbox.may_sleep(Sleep::Long));
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
                .watch(
                    DeliveryGuard::new(Arc::new(record)),
                    Registered::Pidfd(pidfd)
                )
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

/// How often the eventfd was written since the last call.
fn writes(mailbox: &Mailbox) -> u64 {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let (notifier, now) = (mailbox.notifier(), Timespec::default());
    let mut fds = [PollFd::new(&*notifier, PollFlags::IN)];
    if poll(&mut fds, Some(&now)) == Ok(0) {
        return 0;
    }
    let mut count = [0; 8];
    rustix::io::read(&*notifier, &mut count).expect("it is readable");
    u64::from_ne_bytes(count)
}

/// Registers a process by an eventfd, which an epoll accepts like a pidfd.
fn register(mailbox: &Mailbox, how: fn(OwnedFd) -> Registered) {
    let record = Record::new(
        Pid::new(1).expect("a pid"),
        Ownership::NotChild,
        WatchFor::Exited,
    );
    let fd = eventfd(0, EventfdFlags::CLOEXEC).expect("a descriptor can be had");
    let sent = mailbox.watch(DeliveryGuard::new(Arc::new(record)), how(fd));
    assert!(sent.is_ok());
}

fn polled(mailbox: &Mailbox) -> Vec<bool> {
    let mut commands = VecDeque::new();
    mailbox.take(&mut commands);
    let polled = |command| matches!(command, Command::Watch(_, Registered::Polled(_)));
    commands.into_iter().map(polled).collect()
}

#[test]
fn a_registration_does_not_end_a_short_sleep_if_its_pidfd_can_be_polled() {
    let mailbox = mailbox();
    // Without an epoll every registration wakes the reader.
    assert!(mailbox.may_sleep(Sleep::Short));
    register(&mailbox, Registered::Pidfd);
    assert_eq!((writes(&mailbox), polled(&mailbox)), (1, vec![false]));

    mailbox.set_new_pidfds(NewPidfds::open().ok().map(Arc::new));
    assert!(mailbox.may_sleep(Sleep::Short));
    register(&mailbox, Registered::Pidfd);
    assert_eq!(writes(&mailbox), 0);
    // The process has ended, and will cause no event.
    register(&mailbox, Registered::Ended);
    assert_eq!(writes(&mailbox), 1);
    // The reader is awake.
    register(&mailbox, Registered::Pidfd);
    assert_eq!(
        (writes(&mailbox), polled(&mailbox)),
        (0, vec![true, false, false])
    );

    assert!(mailbox.may_sleep(Sleep::Long));
    register(&mailbox, Registered::Pidfd);
    assert_eq!((writes(&mailbox), polled(&mailbox)), (1, vec![false]));

    // The fifth is over the limit for 64 descriptors.
    assert!(mailbox.may_sleep(Sleep::Short));
    for _ in 0..4 {
        register(&mailbox, Registered::Pidfd);
        assert_eq!(writes(&mailbox), 0);
    }
    register(&mailbox, Registered::Pidfd);
    assert_eq!(
        (writes(&mailbox), polled(&mailbox)),
        (1, vec![true, true, true, true, false])
    );

    // A file that cannot be polled is not in the epoll.
    assert!(mailbox.may_sleep(Sleep::Short));
    register(&mailbox, |_| {
        let program = std::env::current_exe().expect("it has a path");
        Registered::Pidfd(std::fs::File::open(program).expect("it is readable").into())
    });
    assert_eq!((writes(&mailbox), polled(&mailbox)), (1, vec![false]));

    // Other commands end any sleep.
    assert!(mailbox.may_sleep(Sleep::Short));
    assert!(mailbox.send(Command::Panic).is_ok());
    assert_eq!(writes(&mailbox), 1);
}
