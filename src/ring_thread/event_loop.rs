//! The event loop of the ring thread: takes commands, submits, waits, delivers.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::{Engine, Event, PID_REUSE_MIN, SHORT_SLEEP, StatusSource, WaitMode};
use crate::dispatch::queued::Queued;
use crate::record::Ownership;
use crate::record::delivery_guard::DeliveryGuard;
use crate::ring_thread::command::{Command, Registered};
use crate::ring_thread::deadlines::Deadlines;
use crate::ring_thread::mailbox::Sleep;
use crate::ring_thread::orphans::Orphans;
use crate::shared::Shared;
use crate::sync::shrink::ShrinkIfSparse;
use crate::sync::{signal_mask, wait_graph};
use crate::trace;

/// How many commands are carried out before exits are processed again; they take well under a
/// millisecond.
const COMMANDS_PER_TURN: usize = 256;

/// Registrations with shorter pauses are frequent.
const FREQUENT_MAX: Duration = Duration::from_millis(1);
/// After a wait of this length without an event, a worker reaps the child. With less between exits,
/// processors are awake, and a wake-up would only take one from others.
const PAUSE_MIN: Duration = Duration::from_micros(200);

pub(crate) struct RingThread {
    pub(super) shared: Arc<Shared>,
    pub(super) engine: Box<dyn Engine>,
    /// Ended processes whose callbacks do not fit the queue yet, in the order in which they ended.
    /// Each watch is here at most once, so the limit of watches bounds the backlog.
    pub(super) backlog: VecDeque<Queued>,
    /// How many of these have found the queue full before.
    stalled: usize,
    pub(super) deadlines: Deadlines,
    /// `None` unless this process is to reap orphans.
    pub(super) orphans: Option<Orphans>,
    /// Whether the last wake-up belonged to a burst.
    pub(super) burst: bool,
    /// Commands that were taken from the mailbox and not carried out yet.
    commands: VecDeque<Command>,
    /// When a registration was last taken, and whether registrations are frequent.
    registered_at: Option<Instant>,
    registrations_frequent: bool,
    /// Until when new watches stay in the epoll; set while there are some.
    arm_new_at: Option<Instant>,
    /// When the last wait ended, and whether that wait had begun late after the one before.
    pub(super) waited_at: Instant,
    pub(super) late: bool,
    /// Whether the last wait was long: the workers sleep, and processors may.
    pub(super) after_pause: bool,
    pub(super) events: Vec<Event>,
    /// Watches whose process had ended by the time that their command was carried out. Those that
    /// the next wait reports have ended before.
    ended_before: Vec<Event>,
    /// A caller waits until the commands taken are carried out, and descriptors are closed.
    flush: bool,
}

impl RingThread {
    pub(crate) fn new(shared: Arc<Shared>, engine: Box<dyn Engine>) -> Self {
        wait_graph::mark_ring_thread();
        shared.mailbox.set_new_pidfds(engine.new_pidfds());
        Self {
            orphans: shared.settings.subreaper.then(Orphans::default),
            shared,
            engine,
            backlog: VecDeque::new(),
            stalled: 0,
            deadlines: Deadlines::new(),
            burst: false,
            commands: VecDeque::new(),
            registered_at: None,
            registrations_frequent: false,
            arm_new_at: None,
            waited_at: Instant::now(),
            late: false,
            after_pause: false,
            events: Vec::new(),
            ended_before: Vec::new(),
            flush: false,
        }
    }

    /// Runs until the watcher is dropped. However it ends, dropping `self` closes all live records.
    pub(crate) fn run(mut self) {
        while !self.shared.stopping() {
            if let Err(error) = self.run_once() {
                if self.shared.stopping() {
                    // The ring stops repeating failed calls once the watcher stops.
                    return;
                }
                let backend = self.shared.stats().backend;
                self.shared.set_death(format!(
                    "waiting for the kernel ({backend}) failed: {error}"
                ));
                return;
            }
        }
    }

    fn run_once(&mut self) -> io::Result<()> {
        self.take_commands()?;
        self.dispatch();
        self.wait()?;
        self.deliver()?;
        self.acknowledge()?;
        self.deadlines.run_due();
        self.dispatch();
        self.reap_orphans();
        Ok(())
    }

    /// Carries out some commands. The others follow after the exits that have arrived meanwhile.
    fn take_commands(&mut self) -> io::Result<()> {
        // In this order: see `NewPidfds`.
        self.engine.read_new_pidfds();
        let flush = self.shared.mailbox.take(&mut self.commands);
        let mut registered = false;
        for _ in 0..COMMANDS_PER_TURN {
            let Some(command) = self.commands.pop_front() else {
                break;
            };
            match command {
                Command::Watch(guard, how) => {
                    registered = true;
                    self.register(guard, how)?;
                }
                Command::Unwatch(record) => self.engine.disarm(&record)?,
                Command::Deadline(record) => self.deadlines.set(record),
                Command::Schedule(guard) => {
                    self.shared.counters.watched.add(1);
                    self.backlog.push_back(Queued::Exit(guard));
                }
                Command::Ended(record) => self.ended(&record),
                Command::Retry(guard, pidfd) => self.retry(guard, pidfd)?,
                #[cfg(test)]
                Command::Panic => panic!("requested by a test"),
            }
        }
        if self.commands.is_empty() {
            self.commands.shrink_if_sparse();
        }
        self.engine
            .end_new(self.commands.is_empty(), &mut self.ended_before)?;
        self.plan_sleep(registered, flush)?;
        self.flush |= flush;
        Ok(())
    }

    /// Answers a caller that waits for commands. By now the watches that ended at once are
    /// delivered, and their descriptors are staged to be closed.
    fn acknowledge(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.flush) {
            self.engine.submit()?;
            self.shared.mailbox.acknowledge(self.commands.len());
        }
        Ok(())
    }

    fn reap_orphans(&mut self) {
        // Otherwise a child of this watcher may be unknown yet.
        if let (Some(orphans), true) = (&mut self.orphans, self.commands.is_empty()) {
            orphans.run_due(&self.shared);
        }
    }

    fn register(&mut self, guard: DeliveryGuard, how: Registered) -> io::Result<()> {
        if let Some(orphans) = &mut self.orphans {
            orphans.registered(guard.record());
        }
        match how {
            // The epoll must not keep the pidfd, so the engine ends the watch if it is abandoned.
            Registered::Polled(pidfd) => self.engine.insert_new(guard, pidfd),
            Registered::Pidfd(pidfd) | Registered::Ended(pidfd)
                if guard.record().is_abandoned() =>
            {
                self.abandoned(guard, Some(pidfd))
            }
            Registered::Ended(pidfd) => {
                let source = match guard.record().ownership() {
                    Ownership::Owned => StatusSource::Owned {
                        pidfd: Some(pidfd),
                        inode: None,
                        maybe_reused: false,
                    },
                    Ownership::Child | Ownership::NotChild => StatusSource::Pidfd(pidfd),
                };
                self.ended_before.push(Event::Ended(guard, source));
                Ok(())
            }
            Registered::Pidfd(pidfd) => self.engine.arm(guard, Some(pidfd)),
            Registered::Pid => self.engine.arm(guard, None),
        }
    }

    /// Arms new watches if it is time, and determines how the next sleep is to be. Sleeps are short
    /// while one registration follows another within [`FREQUENT_MAX`]. With longer pauses, adding
    /// the pidfd costs the caller more than waking the ring thread.
    fn plan_sleep(&mut self, registered: bool, flush: bool) -> io::Result<()> {
        let now = self.waited_at;
        let pause = self
            .registered_at
            .map(|at| now.saturating_duration_since(at));
        // Those of the last short sleep follow one another, too.
        let frequent = self.engine.has_new() || pause.is_some_and(|pause| pause < FREQUENT_MAX);
        if registered {
            self.registered_at = Some(now);
            self.registrations_frequent = frequent;
        } else if !frequent {
            self.registrations_frequent = false;
        }
        if flush || self.arm_new_at.is_some_and(|at| at <= now) {
            self.engine.arm_all_new()?;
        }
        self.arm_new_at = match self.engine.has_new() {
            true => self.arm_new_at.or_else(|| now.checked_add(SHORT_SLEEP)),
            false => None,
        };
        Ok(())
    }

    /// Ends a watch of which no handle is left.
    pub(super) fn abandoned(
        &mut self,
        guard: DeliveryGuard,
        pidfd: Option<OwnedFd>,
    ) -> io::Result<()> {
        drop(guard);
        self.shared.counters.watched.sub(1);
        pidfd.map_or(Ok(()), |pidfd| self.engine.close(pidfd))
    }

    fn wait(&mut self) -> io::Result<()> {
        self.engine.retry_due()?;
        self.publish();
        // The backlog does not prevent sleep: a worker wakes this thread when the queue has
        // capacity.
        let sleep = match self.registrations_frequent || self.arm_new_at.is_some() {
            true => Sleep::Short,
            false => Sleep::Long,
        };
        let may_sleep = self.commands.is_empty()
            && self.ended_before.is_empty()
            && !self.flush
            && self.shared.mailbox.may_sleep(sleep);
        let mode = match (may_sleep, self.burst) {
            (false, _) => WaitMode::Poll,
            (true, false) => WaitMode::One,
            (true, true) => WaitMode::Batch,
        };
        let mut timeout = self.deadlines.next_timeout();
        if let Some(until) = self.orphans.as_ref().and_then(Orphans::next_timeout) {
            timeout = Some(timeout.map_or(until, |timeout| timeout.min(until)));
        }
        if mode != WaitMode::Poll {
            signal_mask::restore_own_mask();
        }
        let before = Instant::now();
        if sleep == Sleep::Short {
            let until_arm = self
                .arm_new_at
                .map_or(SHORT_SLEEP, |at| at.saturating_duration_since(before));
            timeout = Some(timeout.map_or(until_arm, |timeout| timeout.min(until_arm)));
        }
        self.late = before.saturating_duration_since(self.waited_at) > PID_REUSE_MIN;
        let waited = self.engine.wait(mode, timeout, &mut self.events);
        self.events.append(&mut self.ended_before);
        self.waited_at = Instant::now();
        self.after_pause = self.waited_at.saturating_duration_since(before) >= PAUSE_MIN;
        waited
    }

    /// Moves ended processes to the queue, as far as it has capacity, or runs their callbacks here.
    fn dispatch(&mut self) {
        if self.backlog.is_empty() {
            return;
        }
        if self.shared.settings.inline {
            // Commands that callbacks send are carried out in the next turn, so that each turn
            // ends.
            for _ in 0..self.backlog.len() {
                let Some(Queued::Exit(guard)) = self.backlog.pop_front() else {
                    break;
                };
                Queued::prefetch(self.backlog.front(), self.backlog.get(1));
                self.shared.counters.watched.sub(1);
                guard.run_callbacks(&self.shared, None);
            }
            self.backlog.shrink_if_sparse();
            return;
        }
        // The permits are returned before the callbacks run, which may register the next watches.
        let watched = &self.shared.counters.watched;
        let moved = self
            .shared
            .queue
            .push_from(&mut self.backlog, |moved| watched.sub(moved as u64));
        self.backlog.shrink_if_sparse();
        let stalled_before = self.stalled.saturating_sub(moved);
        self.stalled = self.backlog.len();
        let stalls = self.stalled - stalled_before;
        self.shared.counters.stalls.add(stalls as u64);
        if stalled_before == 0 && stalls > 0 {
            trace::queue_full(self.stalled);
        }
    }

    fn publish(&self) {
        let counters = &self.shared.counters;
        let gauges = self.engine.gauges();
        counters
            .open_pidfds
            .set((gauges.open_pidfds + self.deadlines.open_pidfds()) as u64);
        counters.enters.set(gauges.enters);
        counters.backlog.set(self.backlog.len() as u64);
        // Last, so that the descriptor of every watch that is counted as armed is counted.
        counters.armed.set(gauges.armed as u64);
    }
}

impl Drop for RingThread {
    /// Runs at the end of the thread: a drop of the watcher, an error, or a panic. Guards that are
    /// dropped with this thread notify their waiters; this closes the mailbox and the queue.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.set_death("the ring thread panicked".into());
        }
        // The mailbox first, so that later commands find it closed.
        drop(self.shared.mailbox.close());
        self.shared.orphan_queue.close();
        // Workers still run what is queued, unless the watcher is being dropped.
        self.shared.queue.close();
        if self.shared.stopping() {
            // If a waker dropped the watcher on this thread, the drop drained the queue before this
            // thread's last push.
            drop(self.shared.queue.drain());
        }
        if let Some(reason) = self.shared.death() {
            trace::ring_thread_died(reason);
        }
    }
}

#[cfg(test)]
mod tests;
