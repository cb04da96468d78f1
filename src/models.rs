//! Loom models: every interleaving of a few threads on the exit queue, the mailbox with its sleep
//! flag, and the life of a callback. A lost wake-up is a deadlock, which loom reports.
//!
//! `RUSTFLAGS="--cfg exitring_loom" cargo test --release --lib models`

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use loom::thread;
use rustix::event::{EventfdFlags, eventfd};

use crate::api::starters::Starters;
use crate::dispatch::exit_queue::ExitQueue;
use crate::record::delivery_guard::DeliveryGuard;
use crate::record::{NewDeadline, Ownership, Record, WatchFor};
use crate::ring_thread::command::Command;
use crate::ring_thread::mailbox::{Mailbox, Sleep};
use crate::ring_thread::model_notifier::ModelNotifier;
use crate::shared::{Settings, Shared};
use crate::sys::SignalMask;
use crate::types::callback::Cancel;
use crate::{Outcome, Pid};

/// Explores all interleavings with at most three preemptions. No bug between two threads is known
/// that needs more.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn mailbox() -> Mailbox {
    Mailbox::new(eventfd(0, EventfdFlags::CLOEXEC).expect("a descriptor"), 64)
}

fn shared() -> Arc<Shared> {
    let queue = ExitQueue::new(2).expect("memory");
    let mask = SignalMask::of_this_thread();
    Arc::new(Shared::new(
        mailbox(),
        queue,
        Starters::new(1),
        Settings {
            max_watches: 16,
            inline: false,
            usage: true,
            subreaper: false,
        },
        mask,
    ))
}

/// Does what the ring thread does: takes commands, and sleeps if the mailbox allows it.
fn read_until(mailbox: &Mailbox, mut enough: impl FnMut(&mut VecDeque<Command>) -> bool) {
    let notifier = mailbox.notifier();
    loop {
        let mut commands = VecDeque::new();
        let flush = mailbox.take(&mut commands);
        let done = enough(&mut commands);
        if flush {
            mailbox.acknowledge(0);
        }
        if done {
            return;
        }
        if mailbox.may_sleep(Sleep::Long) {
            notifier.wait();
        }
    }
}

#[test]
fn a_command_wakes_a_sleeping_reader() {
    check(|| {
        let mailbox = Arc::new(mailbox());
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || assert!(mailbox.send(Command::Panic).is_ok()))
            })
            .collect();
        let mut taken = 0;
        read_until(&mailbox, |commands| {
            taken += commands.len();
            taken == 2
        });
        for sender in senders {
            sender.join().expect("no panic");
        }
    });
}

#[test]
fn a_wake_up_and_a_stop_request_wake_a_sleeping_reader() {
    check(|| {
        let mailbox = Arc::new(mailbox());
        let other = Arc::clone(&mailbox);
        let ender = thread::spawn(move || {
            other.wake_reader();
            other.request_stop();
        });
        let notifier = mailbox.notifier();
        loop {
            mailbox.take(&mut VecDeque::new());
            match mailbox.may_sleep(Sleep::Long) {
                true => notifier.wait(),
                // Either a wake-up without a command, which the take clears, or the end, which it
                // does not clear.
                false => {
                    mailbox.take(&mut VecDeque::new());
                    if !mailbox.may_sleep(Sleep::Long) {
                        break;
                    }
                    notifier.wait();
                }
            }
        }
        ender.join().expect("no panic");
    });
}

#[test]
fn a_flush_returns_once_earlier_commands_are_carried_out() {
    check(|| {
        let mailbox = Arc::new(mailbox());
        let carried_out = Arc::new(AtomicU32::new(0));
        let (other, seen) = (Arc::clone(&mailbox), Arc::clone(&carried_out));
        let flusher = thread::spawn(move || {
            assert!(other.send(Command::Panic).is_ok());
            other.flush(Duration::from_secs(1000));
            assert_eq!(seen.load(Ordering::SeqCst), 1);
            other.request_stop();
        });
        let mut taken = 0;
        let notifier = mailbox.notifier();
        while taken == 0 || !flusher_is_done(&mailbox) {
            let mut commands = VecDeque::new();
            let flush = mailbox.take(&mut commands);
            taken += commands.len();
            carried_out.fetch_add(commands.len() as u32, Ordering::SeqCst);
            if flush {
                mailbox.acknowledge(0);
            }
            if mailbox.may_sleep(Sleep::Long) {
                notifier.wait();
            }
        }
        flusher.join().expect("no panic");
    });
}

/// The end was requested, which no take clears.
fn flusher_is_done(mailbox: &Mailbox) -> bool {
    mailbox.take(&mut VecDeque::new());
    mailbox.acknowledge(0);
    !mailbox.may_sleep(Sleep::Long)
}

/// A producer that keeps a backlog, like the ring thread, and two workers.
#[test]
fn each_exit_goes_through_a_full_queue_once() {
    check(|| {
        let queue = Arc::new(ExitQueue::new(1).expect("memory"));
        let notifier = Arc::new(ModelNotifier::default());
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (queue, notifier) = (Arc::clone(&queue), Arc::clone(&notifier));
                thread::spawn(move || {
                    let mut taken = Vec::new();
                    while let Some(popped) = queue.pop() {
                        if popped.wake_producer {
                            notifier.notify();
                        }
                        taken.push(popped.value);
                    }
                    taken
                })
            })
            .collect();
        let mut backlog: VecDeque<u32> = (0..2).collect();
        loop {
            queue.push_from(&mut backlog, |_| ());
            if backlog.is_empty() {
                break;
            }
            notifier.wait();
        }
        queue.close();
        let mut taken: Vec<_> = workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("no panic"))
            .collect();
        taken.sort_unstable();
        assert_eq!(taken, [0, 1]);
    });
}

/// The callback of the first exit waits for that of the second, and there are two workers. An entry
/// is pushed to an idle worker, or waits for the next push.
#[test]
fn no_entry_stays_in_the_queue_while_a_worker_is_idle() {
    check(|| {
        let queue = Arc::new(ExitQueue::new(2).expect("memory"));
        let second = Arc::new(ModelNotifier::default());
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (queue, second) = (Arc::clone(&queue), Arc::clone(&second));
                thread::spawn(move || {
                    while let Some(popped) = queue.pop() {
                        match popped.value {
                            1 => second.wait(),
                            _ => second.notify(),
                        }
                    }
                })
            })
            .collect();
        for value in [1, 2] {
            if let Err(value) = queue.push_to_idle(value) {
                queue.push_from(&mut VecDeque::from([value]), |_| ());
            }
        }
        queue.close();
        for worker in workers {
            worker.join().expect("no panic");
        }
    });
}

/// The callback of the first exit waits for the second exit, if that was passed to an idle worker
/// unread. There is one worker.
#[test]
fn no_callback_waits_for_an_entry_that_only_its_own_worker_can_pop() {
    check(|| {
        let queue = Arc::new(ExitQueue::new(2).expect("memory"));
        let pushed = Arc::new((ModelNotifier::default(), AtomicU32::new(0)));
        let popped = Arc::new(ModelNotifier::default());
        let worker = {
            let (queue, pushed, popped) =
                (Arc::clone(&queue), Arc::clone(&pushed), Arc::clone(&popped));
            thread::spawn(move || {
                while let Some(entry) = queue.pop() {
                    match entry.value {
                        1 => {
                            pushed.0.wait();
                            if pushed.1.load(Ordering::SeqCst) == 1 {
                                popped.wait();
                            }
                        }
                        _ => popped.notify(),
                    }
                }
            })
        };
        queue.push_from(&mut VecDeque::from([1]), |_| ());
        if queue.push_to_idle(2).is_ok() {
            pushed.1.store(1, Ordering::SeqCst);
        }
        pushed.0.notify();
        queue.close();
        worker.join().expect("no panic");
    });
}

fn record() -> Arc<Record> {
    let pid = Pid::new(1).expect("positive");
    Arc::new(Record::new(pid, Ownership::Child, WatchFor::Exited))
}

/// Delivers the exit on another thread, which runs the callbacks at once.
fn ring_thread(shared: &Arc<Shared>, guard: DeliveryGuard) -> thread::JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        if let Some(guard) = guard.finish(Outcome::Exited(0), None, Instant::now()) {
            guard.run_callbacks(&shared, None);
        }
    })
}

/// How often a callback began and ended.
#[derive(Default)]
struct Trace {
    begun: AtomicU32,
    ended: AtomicU32,
}

impl Trace {
    fn run(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        // Lets other threads run in between.
        thread::yield_now();
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    fn seen(&self) -> (u32, u32) {
        let seen = |counter: &AtomicU32| counter.load(Ordering::SeqCst);
        (seen(&self.begun), seen(&self.ended))
    }
}

#[test]
fn a_cancelled_callback_never_runs_and_any_other_has_run_when_cancel_returns() {
    check(|| {
        let (shared, record) = (shared(), record());
        let trace = Arc::new(Trace::default());
        let runs = Arc::clone(&trace);
        let id = record
            .on_exit(&shared, Box::new(move |_| runs.run()))
            .expect("open");
        let ring_thread = ring_thread(&shared, DeliveryGuard::new(Arc::clone(&record)));
        match record.cancel(id) {
            Cancel::Cancelled => {
                assert_eq!(trace.seen(), (0, 0));
                ring_thread.join().expect("no panic");
                assert_eq!(trace.seen(), (0, 0));
            }
            Cancel::NotPending => {
                assert_eq!(trace.seen(), (1, 1));
                ring_thread.join().expect("no panic");
            }
            Cancel::Running => panic!("this is not a callback"),
        }
        assert_eq!(record.cancel(id), Cancel::NotPending);
    });
}

#[test]
fn a_callback_added_while_the_exit_comes_runs_once() {
    check(|| {
        let (shared, record) = (shared(), record());
        let trace = Arc::new(Trace::default());
        let ring_thread = ring_thread(&shared, DeliveryGuard::new(Arc::clone(&record)));
        let runs = Arc::clone(&trace);
        record
            .on_exit(&shared, Box::new(move |_| runs.run()))
            .expect("open");
        ring_thread.join().expect("no panic");
        // A callback added before the exit has run; one added after it is in the mailbox, once.
        let mut commands = VecDeque::new();
        shared.mailbox.take(&mut commands);
        for command in commands {
            match command {
                Command::Schedule(guard) => guard.run_callbacks(&shared, None),
                _ => panic!("no other command was sent"),
            }
        }
        assert_eq!(trace.seen(), (1, 1));
    });
}

#[test]
fn a_callback_is_cancelled_at_most_once() {
    check(|| {
        let (shared, record) = (shared(), record());
        let trace = Arc::new(Trace::default());
        let runs = Arc::clone(&trace);
        let id = record
            .on_exit(&shared, Box::new(move |_| runs.run()))
            .expect("open");
        let ring_thread = ring_thread(&shared, DeliveryGuard::new(Arc::clone(&record)));
        let other = Arc::clone(&record);
        let canceller = thread::spawn(move || other.cancel(id));
        let mine = record.cancel(id);
        let theirs = canceller.join().expect("no panic");
        ring_thread.join().expect("no panic");
        let cancelled = [mine, theirs]
            .iter()
            .filter(|found| **found == Cancel::Cancelled)
            .count() as u32;
        assert!(cancelled <= 1);
        assert_eq!(trace.seen(), (1 - cancelled, 1 - cancelled));
    });
}

#[test]
fn a_waiter_gets_the_exit_or_an_error_at_the_end() {
    check(|| {
        let (shared, record) = (shared(), record());
        let guard = DeliveryGuard::new(Arc::clone(&record));
        let ender = thread::spawn(move || drop(guard));
        let (watched, waits) = (Arc::clone(&record), Arc::clone(&shared));
        let waiter = thread::spawn(move || watched.wait(&waits, None).is_err());
        ender.join().expect("no panic");
        assert!(waiter.join().expect("no panic"));

        let (shared, record) = (self::shared(), self::record());
        let ring_thread = ring_thread(&shared, DeliveryGuard::new(Arc::clone(&record)));
        let exit = record.wait(&shared, None).expect("it comes");
        assert_eq!(exit.map(crate::Exit::outcome), Some(Outcome::Exited(0)));
        ring_thread.join().expect("no panic");
    });
}

#[test]
fn the_ring_thread_always_takes_the_latest_deadline() {
    check(|| {
        let mailbox = Arc::new(mailbox());
        let pid = Pid::new(1).expect("a pid");
        let record = Arc::new(Record::new(pid, Ownership::Owned, WatchFor::Exited));
        let (theirs, sent_to) = (Arc::clone(&record), Arc::clone(&mailbox));
        let caller = thread::spawn(move || {
            for seconds in 1..=2 {
                let deadline = NewDeadline {
                    at: None,
                    grace: Duration::from_secs(seconds),
                };
                assert!(theirs.request_deadline(deadline, || {
                    let command = Command::Deadline(Arc::clone(&theirs));
                    sent_to.send(command).is_ok()
                }));
            }
        });
        let mut last = Duration::ZERO;
        read_until(&mailbox, |commands| {
            for command in commands.drain(..) {
                if let Command::Deadline(record) = command {
                    let taken = record.take_new_deadline().expect("one command for each");
                    assert!(taken.grace > last);
                    last = taken.grace;
                }
            }
            last == Duration::from_secs(2)
        });
        caller.join().expect("no panic");
        assert!(record.take_new_deadline().is_none());
    });
}
