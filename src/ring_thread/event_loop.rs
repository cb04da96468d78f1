//! The thread that owns the ring: takes commands, submits, waits, delivers.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use crate::backend::{Engine, Event, LATE, StatusSource, WaitMode};
use crate::record::delivery_guard::{DeliveryGuard, Reaped};
use crate::ring_thread::deadlines::Deadlines;
use crate::ring_thread::mailbox::Command;
use crate::ring_thread::status_query::{self, StatusQuery};
use crate::shared::{self, Shared};
use crate::sync::shrink::ShrinkIfSparse;
use crate::sync::signal_mask;
use crate::sys::{self, WaitTarget};
use crate::types::exit::Outcome;

/// So many exits in one wake-up are a storm. Then it pays to wait for a batch: each wake-up
/// takes a processor from the processes that are about to exit.
const STORM: usize = 8;
/// And so many are enough for one to go on: what a batch's short wait brings of a storm that is
/// held up by two or three processors.
const STORM_GOES_ON: usize = 3;

/// So many commands are carried out before the next look at the exits, well under a millisecond.
const COMMANDS_AT_ONCE: usize = 256;

pub(crate) struct RingThread {
    shared: Arc<Shared>,
    engine: Box<dyn Engine>,
    /// Ended, with callbacks to run, and not in the queue yet; in the order of their ends.
    /// Each watch is here at most once, so the limit of watches bounds it.
    backlog: VecDeque<DeliveryGuard>,
    /// Of these, the ones that have found the queue full already.
    stalled: usize,
    deadlines: Deadlines,
    /// The last wake-up brought a storm.
    storm: bool,
    /// Taken from the mailbox, and not carried out yet.
    commands: VecDeque<Command>,
    /// When the last wait ended, and whether the one before had ended long before that began.
    waited_at: Instant,
    late: bool,
    events: Vec<Event>,
}

impl RingThread {
    pub(crate) fn new(shared: Arc<Shared>, engine: Box<dyn Engine>) -> Self {
        shared::mark_ring_thread();
        Self {
            shared,
            engine,
            backlog: VecDeque::new(),
            stalled: 0,
            deadlines: Deadlines::new(),
            storm: false,
            commands: VecDeque::new(),
            waited_at: Instant::now(),
            late: false,
            events: Vec::new(),
        }
    }

    /// Runs until the watcher is dropped. Whatever ends it, its own drop tells everybody.
    pub(crate) fn run(mut self) {
        while !self.shared.stopping() {
            if let Err(error) = self.turn() {
                if self.shared.stopping() {
                    // What was tried again and again is no more.
                    return;
                }
                let backend = self.shared.stats().backend;
                self.shared
                    .set_death(format!("asking the kernel ({backend}) failed: {error}"));
                return;
            }
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        self.take_commands()?;
        self.dispatch();
        self.wait()?;
        self.deliver()?;
        self.deadlines.run_due();
        self.dispatch();
        Ok(())
    }

    /// Carries out some commands. The rest comes after a look at the exits that have come meanwhile.
    fn take_commands(&mut self) -> io::Result<()> {
        let flush = self.shared.mailbox.take(&mut self.commands);
        for _ in 0..COMMANDS_AT_ONCE {
            let Some(command) = self.commands.pop_front() else {
                break;
            };
            match command {
                Command::Watch(guard, pidfd) if guard.record().is_abandoned() => {
                    self.abandoned(guard, Some(pidfd))?;
                }
                Command::Watch(guard, pidfd) => self.engine.arm(guard, Some(pidfd))?,
                Command::Own(guard) => self.engine.arm(guard, None)?,
                Command::Unwatch(record) => self.engine.disarm(&record)?,
                Command::Deadline(record) => self.deadlines.set(record),
                Command::Schedule(guard) => {
                    self.shared.counters.watched.add(1);
                    self.backlog.push_back(guard);
                }
                #[cfg(test)]
                Command::Panic => panic!("asked to"),
            }
        }
        if self.commands.is_empty() {
            self.commands.shrink_if_sparse();
        }
        if flush {
            self.engine.submit()?;
            self.shared.mailbox.acknowledge(self.commands.len());
        }
        Ok(())
    }

    /// No handle of the watch is left.
    fn abandoned(&mut self, guard: DeliveryGuard, pidfd: Option<OwnedFd>) -> io::Result<()> {
        drop(guard);
        self.shared.counters.watched.sub(1);
        pidfd.map_or(Ok(()), |pidfd| self.engine.close(pidfd))
    }

    fn wait(&mut self) -> io::Result<()> {
        self.publish();
        // What is parked here waits for a worker, who nudges when there is room.
        let may_sleep = self.commands.is_empty() && self.shared.mailbox.may_sleep();
        let mode = match (may_sleep, self.storm) {
            (false, _) => WaitMode::Poll,
            (true, false) => WaitMode::One,
            (true, true) => WaitMode::Batch,
        };
        let timeout = self.deadlines.next();
        if mode != WaitMode::Poll {
            signal_mask::restore_own_mask();
        }
        let before = Instant::now();
        self.late = before.saturating_duration_since(self.waited_at) > LATE;
        let waited = self.engine.wait(mode, timeout, &mut self.events);
        self.waited_at = Instant::now();
        waited
    }

    /// Whether the exits of this turn may have been there for so long that a process which something else reaped may
    /// have given its pid to another one: user code ran meanwhile, before the wait or since.
    fn is_late(&self) -> bool {
        self.late || self.waited_at.elapsed() > LATE
    }

    fn deliver(&mut self) -> io::Result<()> {
        let mut ended = 0;
        let mut seen_at = None;
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            match event {
                Event::Disarmed => self.shared.counters.watched.sub(1),
                Event::Ended(guard, source) => {
                    ended += 1;
                    let seen_at = *seen_at.get_or_insert_with(Instant::now);
                    self.deliver_one(guard, source, seen_at)?;
                }
            }
        }
        events.shrink_if_sparse();
        self.events = events;
        self.storm = ended >= if self.storm { STORM_GOES_ON } else { STORM };
        Ok(())
    }

    fn deliver_one(
        &mut self,
        guard: DeliveryGuard,
        source: StatusSource,
        seen_at: Instant,
    ) -> io::Result<()> {
        if let StatusSource::Owned { pidfd, inode, late } = source {
            let inode = inode.filter(|_| late || self.is_late());
            return self.reap(guard, pidfd, inode, seen_at);
        }
        let found = status_query::query(guard.record(), &source);
        match (found, source) {
            (StatusQuery::Status(outcome, usage), source) => {
                self.deadlines.ended(guard.record());
                let guard = guard.finish(outcome, usage, seen_at);
                self.finished(outcome, guard);
                match source {
                    StatusSource::Pidfd(pidfd) => self.engine.close(pidfd),
                    _ => Ok(()),
                }
            }
            (StatusQuery::NotYet, StatusSource::Pidfd(pidfd)) if guard.record().is_abandoned() => {
                self.abandoned(guard, Some(pidfd))
            }
            (StatusQuery::NotYet, StatusSource::Pidfd(pidfd)) => {
                self.engine.arm_after_delay(guard, Some(pidfd))
            }
            // Only a pidfd can say so.
            (StatusQuery::NotYet, _) => Ok(()),
        }
    }

    /// Reaps a child by its pid, which is its own until then: nothing else may reap it. In case something does, the pidfd, where
    /// there is one, tells; and `inode`, given if another process may have got the pid meanwhile, as long as there is a descriptor to
    /// look with.
    fn reap(
        &mut self,
        guard: DeliveryGuard,
        pidfd: Option<OwnedFd>,
        inode: Option<u64>,
        seen_at: Instant,
    ) -> io::Result<()> {
        let record = Arc::clone(guard.record());
        let reopened = match (&pidfd, inode) {
            (None, Some(inode)) => match sys::pidfd_open(record.pid()) {
                Ok(pidfd) if sys::inode(pidfd.as_fd()) == Some(inode) => Some(pidfd),
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => None,
                Ok(_) | Err(_) => {
                    let outcome = Outcome::Unknown(status_query::why_reaped(&record));
                    let guard = guard.finish(outcome, None, seen_at);
                    self.deadlines.ended(&record);
                    self.finished(outcome, guard);
                    return Ok(());
                }
            },
            _ => None,
        };
        let target = match pidfd.as_ref().or(reopened.as_ref()) {
            Some(pidfd) => WaitTarget::ReapPidfd(pidfd.as_fd()),
            None => WaitTarget::ReapPid(record.pid()),
        };
        let reaped = guard.reap(target, || Some(status_query::why_reaped(&record)), seen_at);
        if let Some(pidfd) = pidfd {
            self.engine.close(pidfd)?;
        }
        match reaped {
            Reaped::Finished(outcome, guard) => {
                self.deadlines.ended(&record);
                self.finished(outcome, guard);
                Ok(())
            }
            // A tracer has to see its end first.
            Reaped::NotYet(guard) => self.engine.arm_after_delay(guard, None),
        }
    }

    fn finished(&mut self, outcome: Outcome, guard: Option<DeliveryGuard>) {
        let counters = &self.shared.counters;
        counters.delivered.add(1);
        if matches!(outcome, Outcome::Unknown(_)) {
            counters.unknown.add(1);
        }
        match guard {
            Some(guard) => self.backlog.push_back(guard),
            None => counters.watched.sub(1),
        }
    }

    /// Moves ended processes to the workers, as far as there is room, or runs their callbacks here.
    fn dispatch(&mut self) {
        if self.backlog.is_empty() {
            return;
        }
        if self.shared.inline {
            // What callbacks cause comes with the next turn, so that each turn ends.
            for guard in std::mem::take(&mut self.backlog) {
                self.shared.counters.watched.sub(1);
                guard.run_callbacks(&self.shared, None);
            }
            return;
        }
        let moved = self.shared.queue.push_from(&mut self.backlog);
        self.backlog.shrink_if_sparse();
        self.shared.counters.watched.sub(moved as u64);
        let stalled_before = self.stalled.saturating_sub(moved);
        self.stalled = self.backlog.len();
        let stalls = self.stalled - stalled_before;
        self.shared.counters.stalls.add(stalls as u64);
    }

    fn publish(&self) {
        let counters = &self.shared.counters;
        let gauges = self.engine.gauges();
        counters
            .held
            .set((gauges.held + self.deadlines.held()) as u64);
        counters.enters.set(gauges.enters);
        counters.backlog.set(self.backlog.len() as u64);
        // Last: a watch that is counted as armed has its descriptor counted.
        counters.armed.set(gauges.armed as u64);
    }
}

impl Drop for RingThread {
    /// The end, by a drop of the watcher, an error, or a panic. Duties that go down with this
    /// thread tell their waiters themselves; here the ways in and out are closed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.set_death("the ring thread panicked".into());
        }
        // First the way in: what comes later finds it closed.
        drop(self.shared.mailbox.close());
        // Workers still run what is queued, unless the watcher is being dropped.
        self.shared.queue.close();
        if self.shared.stopping() {
            // A waker that dropped the watcher on this thread has drained it before this thread's last push.
            drop(self.shared.queue.drain());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use crate::error::{Closed, ForkError, SpawnError, WaitError, WatchError};
    use crate::ring_thread::mailbox::Command;
    use crate::{Cancel, Watcher};

    /// A ring thread that dies is a bug of ours, so only the inside can have it die.
    #[test]
    #[allow(unsafe_code, reason = "fork_watchable is unsafe, and refused here")]
    fn when_the_ring_thread_dies_every_call_and_every_waiter_gets_an_error() {
        for workers in [0, 2] {
            let watcher = Watcher::builder()
                .workers(workers)
                .build()
                .expect("a watcher can be built");
            let child = watcher
                .spawn(std::process::Command::new("sleep").arg("1000"))
                .expect("sleep starts");
            let (sender, receiver) = mpsc::channel::<()>();
            let callback = child.on_exit(move |_| drop(sender)).expect("it is taken");
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| child.wait());
                // Whether it waits by now is of no consequence to what it gets.
                std::thread::sleep(Duration::from_millis(10));
                assert!(watcher.shared().mailbox.send(Command::Panic).is_ok());
                let died = Closed::RingThreadDied;
                assert_eq!(
                    waiter.join().expect("no panic"),
                    Err(WaitError::Closed(died))
                );
                // The callback was let go of, so the channel has ended.
                assert_eq!(receiver.recv(), Err(mpsc::RecvError));
                assert_eq!(child.cancel(callback), Cancel::NotPending);
                assert_eq!(child.on_exit(|_| ()), Err(died));
                let refused = watcher.watch(child.pid());
                match watcher.stats().backend {
                    // Valgrind, for one, has no pidfds: there this is refused, dead or alive.
                    "threads" => assert!(matches!(refused, Err(WatchError::PidfdDenied { .. }))),
                    _ => assert!(matches!(
                        refused,
                        Err(WatchError::Closed(Closed::RingThreadDied))
                    )),
                }
                // SAFETY: refused before it forks, or else the child does nothing.
                let forked = unsafe { watcher.fork_watchable(|| ()) };
                assert!(matches!(
                    forked,
                    Err(ForkError::Refused(WatchError::Closed(
                        Closed::RingThreadDied
                    )))
                ));
                assert!(matches!(
                    watcher.spawn(&mut std::process::Command::new("true")),
                    Err(SpawnError::Refused(WatchError::Closed(
                        Closed::RingThreadDied
                    )))
                ));
                let death = watcher.stats().death.expect("it is said");
                assert!(death.contains("panicked"), "{death}");
            });
            drop(watcher);
            // It is ours still, and reaped without the watcher.
            child.kill().expect("it lives");
        }
    }
}
