//! The io_uring backend: one-shot polls on pidfds that are closed once armed.
//!
//! Arming stores the process's identity and stages a `POLL_ADD` and a close (`arming`). The poll's
//! completion reports that the process ended. If reading the status needs a descriptor, the watch
//! is queued for one (`status_requests`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::opcode;
use io_uring::types::Fd;

use super::engine::{Engine, Event, Gauges, StatusSource, WaitMode, earlier};
use super::new_pidfds::NewPidfds;
use super::new_watches::{NewWatches, new_watches_max};
use super::probe;
use super::retry_queue::{RETRY_DELAY, RetryQueue};
use super::ring::{Completion, Ring};
use super::slots::{PidIdentity, Slots, Stage};
use super::stale_polls::{self, StalePolls};
use super::status_fd_queue::StatusFdQueue;
use super::stop::Stop;
use super::token::{Kind, Token};
use crate::error::BuildError;
use crate::faults;
use crate::record::Record;
use crate::record::delivery_guard::DeliveryGuard;
use crate::sys;

/// A poll that is removed completes within microseconds.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Uring {
    // The ring is dropped first, which ends the kernel's requests.
    pub(super) ring: Ring,
    pub(super) slots: Slots,
    /// The mailbox's eventfd. It stays open until the mailbox is closed, after the last wait.
    eventfd: RawFd,
    /// Closed when a descriptor is needed and none is available.
    pub(super) spare: Option<OwnedFd>,
    /// Ended watches that need a descriptor.
    pub(super) status_fd_queue: StatusFdQueue,
    /// Slots that are [`Stage::Retrying`].
    pub(super) retry_queue: RetryQueue,
    /// Polls of abandoned watches.
    pub(super) stale_polls: StalePolls,
    /// When to arm the poll of the eventfd again after it failed. Until then nothing wakes a wait.
    pub(super) rearm_wake_at: Option<Instant>,
    /// Events found while arming and disarming; the next wait returns them.
    pub(super) pending_events: Vec<Event>,
    /// Watches that hold a descriptor.
    pub(super) open_pidfds: usize,
    pub(super) new_watches: NewWatches,
}

impl Uring {
    /// Opens a ring. Only the calling thread may use it. Writing to `eventfd`, which must outlive
    /// the ring, ends a wait.
    pub(crate) fn open(eventfd: BorrowedFd<'_>, stop: Arc<Stop>) -> Result<Self, BuildError> {
        let mut uring = Self {
            ring: Ring::open(stop)?,
            slots: Slots::new(),
            eventfd: eventfd.as_raw_fd(),
            spare: sys::duplicate(eventfd.as_raw_fd()).ok(),
            status_fd_queue: StatusFdQueue::new(),
            retry_queue: RetryQueue::default(),
            stale_polls: StalePolls::new(),
            rearm_wake_at: None,
            pending_events: Vec::new(),
            open_pidfds: 0,
            new_watches: NewWatches::new(
                NewPidfds::open().ok(),
                new_watches_max(sys::descriptor_limit()),
            ),
        };
        uring.probe_pidfd_polling()?;
        Ok(uring)
    }

    /// Arms the poll of the eventfd, and checks that pidfds can be polled: polls one and removes
    /// the poll.
    fn probe_pidfd_polling(&mut self) -> Result<(), BuildError> {
        let me = probe::own_pidfd()?;
        // No slot has this token yet.
        let token = Token {
            kind: Kind::Poll,
            key: 0,
            generation: 0,
        };
        let poll = opcode::PollAdd::new(Fd(me.as_raw_fd()), libc::POLLIN as u32).build();
        let remove = opcode::PollRemove::new(token.pack()).build();
        self.arm_wake()
            .and_then(|()| self.arm_new_pidfds())
            .and_then(|()| self.ring.push(poll.user_data(token.pack())))
            .and_then(|()| self.ring.push_quiet(remove))
            .map_err(probe::enter_denied)?;
        let until = Instant::now() + PROBE_TIMEOUT;
        while Instant::now() < until {
            self.ring
                .enter(WaitMode::One, Some(PROBE_TIMEOUT))
                .map_err(probe::enter_denied)?;
            while let Some(completion) = self.ring.next_completion() {
                match (completion.token.kind, -completion.result) {
                    // A kernel without multishot polls refuses at once.
                    (Kind::Wake, _) if !completion.more => {
                        return Err(BuildError::IoUringTooOld {
                            missing: "IORING_POLL_ADD_MULTI (Linux 5.13)",
                        });
                    }
                    (Kind::NewPidfds, _) => self
                        .new_pidfds_completed(&completion, &mut Vec::new())
                        .map_err(probe::enter_denied)?,
                    (Kind::Poll, libc::ECANCELED) => return Ok(()),
                    (Kind::Poll, errno) => return Err(probe::poll_denied(errno)),
                    _ => {}
                }
            }
        }
        Err(probe::poll_denied(libc::ETIME))
    }

    pub(super) fn arm_wake(&mut self) -> io::Result<()> {
        // Multishot: each write to the eventfd is one completion, and its counter is never read.
        let poll = opcode::PollAdd::new(Fd(self.eventfd), libc::POLLIN as u32)
            .multi(true)
            .build();
        self.ring.push(poll.user_data(Token::WAKE.pack()))
    }

    pub(super) fn refill_spare(&mut self) {
        self.spare = sys::duplicate(self.eventfd).ok();
    }

    /// Ends a watch: frees the slot and releases its identity.
    pub(super) fn ended(
        &mut self,
        key: u32,
        source: StatusSource,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let (guard, identity) = self.slots.remove(key);
        self.release(identity)?;
        events.push(Event::Ended(guard, source));
        Ok(())
    }

    /// Ends a watch that holds a pidfd.
    pub(super) fn ended_with_pidfd(&mut self, key: u32, events: &mut Vec<Event>) {
        let (guard, identity) = self.slots.remove(key);
        if let PidIdentity::Pidfd(pidfd) = identity {
            self.open_pidfds -= 1;
            events.push(Event::Ended(guard, StatusSource::Pidfd(pidfd)));
        }
    }

    pub(super) fn disarmed(&mut self, key: u32, events: &mut Vec<Event>) -> io::Result<()> {
        let (_guard, identity) = self.slots.remove(key);
        self.release(identity)?;
        events.push(Event::Disarmed);
        Ok(())
    }

    fn release(&mut self, identity: PidIdentity) -> io::Result<()> {
        match identity {
            PidIdentity::Table(slot) => self.ring.unregister(slot),
            PidIdentity::Inode(_) | PidIdentity::Owned(_) => Ok(()),
            PidIdentity::Pidfd(pidfd) => {
                self.open_pidfds -= 1;
                self.ring.close(pidfd)
            }
        }
    }

    fn process_completions(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        // The first pass waits for the memory of all slots at once, the second for that of none.
        for completion in self.ring.completions() {
            self.slots.prefetch(completion.token.key);
        }
        while let Some(completion) = self.ring.next_completion() {
            match completion.token.kind {
                Kind::Poll => self.poll_completed(completion, events)?,
                Kind::Install => self.install_completed(completion, events)?,
                Kind::Confirm => self.confirm_completed(completion, events)?,
                // It failed for lack of memory, and would fail again at once.
                Kind::Wake if completion.result < 0 => {
                    self.rearm_wake_at = Some(Instant::now() + RETRY_DELAY);
                }
                Kind::Wake if !completion.more => self.arm_wake()?,
                Kind::NewPidfds => self.new_pidfds_completed(&completion, events)?,
                // A test makes the poll fail by removing it.
                Kind::Wake if faults::inject("wake").is_err() => {
                    let remove = opcode::PollRemove::new(Token::WAKE.pack()).build();
                    self.ring.push_quiet(remove)?;
                }
                Kind::Wake | Kind::Quiet => {}
            }
        }
        self.status_fd_queue.requeue_refused();
        Ok(())
    }

    fn poll_completed(
        &mut self,
        completion: Completion,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let Some(key) = self.slots.find(completion.token) else {
            // The watch was abandoned, and its poll completed by itself or was removed.
            self.stale_polls.completed(completion.token);
            return Ok(());
        };
        // An injected fault below has no lasting effect: the process has ended, and arming finds
        // that again.
        if self.slots.is_abandoned(key) {
            return self.disarmed(key, events);
        }
        if completion.result < 0 || faults::inject("POLL_ADD").is_err() {
            // ENOMEM, or worse. The process has not ended, so retry until the poll works.
            self.retry_later(key);
            return Ok(());
        }
        let reaped = completion.result & i32::from(libc::POLLHUP) != 0;
        let slot = self.slots.get(key);
        slot.reaped = reaped;
        let inode = slot.inode();
        if matches!(slot.identity, PidIdentity::Owned(_)) && self.status_fd_queue.is_idle() {
            // The watch needs no descriptor, and overtakes none.
            let source = match reaped {
                true => StatusSource::Reaped,
                false => StatusSource::Owned {
                    pidfd: None,
                    inode,
                    maybe_reused: false,
                },
            };
            return self.ended(key, source, events);
        }
        self.slots.set_stage(key, Stage::NeedsStatus);
        self.status_fd_queue.push(key);
        Ok(())
    }
}

impl Engine for Uring {
    fn arm(&mut self, guard: DeliveryGuard, pidfd: Option<OwnedFd>) -> io::Result<()> {
        match pidfd {
            Some(pidfd) => {
                let key = self
                    .slots
                    .insert(guard, PidIdentity::Owned(None), Stage::Retrying);
                if self.is_reaped_elsewhere(key, &pidfd) {
                    return self.ended_while_arming(key, StatusSource::Reaped);
                }
                self.arm_with_pidfd(key, pidfd)
            }
            // No descriptor was available when the child was registered. It is opened here, with
            // the spare descriptor if necessary.
            None => {
                let key = self
                    .slots
                    .insert(guard, PidIdentity::Owned(None), Stage::Retrying);
                self.arm_slot(key)
            }
        }
    }

    fn arm_after_delay(&mut self, guard: DeliveryGuard, pidfd: Option<OwnedFd>) -> io::Result<()> {
        let (identity, close) = match pidfd {
            Some(pidfd) => {
                let (identity, _, close) = self.store_identity(pidfd, guard.record());
                (identity, close)
            }
            None => (PidIdentity::Owned(None), None),
        };
        let key = self.slots.insert(guard, identity, Stage::Retrying);
        self.retry_later(key);
        close.map_or(Ok(()), |pidfd| self.ring.close(pidfd))
    }

    fn disarm(&mut self, record: &Record) -> io::Result<()> {
        let Some(token) = Token::unpack(record.token()) else {
            return Ok(());
        };
        let Some(key) = self.slots.find(token) else {
            return Ok(());
        };
        match self.slots.stage(key) {
            Stage::Armed => {}
            Stage::New => {
                let mut pending_events = std::mem::take(&mut self.pending_events);
                let disarmed = self.disarm_new(key, &mut pending_events);
                self.pending_events = pending_events;
                return disarmed;
            }
            // A watch in a queue is removed when its turn comes.
            Stage::NeedsStatus | Stage::Retrying => return Ok(()),
        }
        // The poll holds the file by itself. Its late completion finds no slot with its generation.
        match self.stale_polls.len() < stale_polls::MAX {
            true => self.stale_polls.push(token),
            false => {
                let remove = opcode::PollRemove::new(token.pack()).build();
                self.ring.push_quiet(remove)?;
            }
        }
        let mut pending_events = std::mem::take(&mut self.pending_events);
        let disarmed = self.disarmed(key, &mut pending_events);
        self.pending_events = pending_events;
        disarmed
    }

    fn close(&mut self, fd: OwnedFd) -> io::Result<()> {
        self.ring.close(fd)
    }

    fn retry_due(&mut self) -> io::Result<()> {
        Uring::retry_due(self)
    }

    fn wait(
        &mut self,
        mode: WaitMode,
        timeout: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        self.process_status_requests(events)?;
        self.remove_stale_polls()?;
        events.append(&mut self.pending_events);
        // An enter that ran out of memory may have collected completions in between.
        let busy = !events.is_empty()
            || self.ring.has_completions()
            || self.status_fd_queue.has_ready()
            || self.new_watches.is_readable();
        match busy {
            true => self.ring.submit()?,
            false => self.ring.enter(mode, earlier(timeout, self.next_retry()))?,
        }
        self.process_completions(events)?;
        if self.status_fd_queue.has_ready() {
            // The kernel answers a request within the enter that submits it, so the status of a
            // single exit need not wait for the next round.
            self.process_status_requests(events)?;
            self.ring.submit()?;
            self.process_completions(events)?;
        }
        if self.spare.is_none() {
            self.refill_spare();
        }
        // Not while there is more to do: with hundreds of thousands of slots this takes
        // milliseconds.
        if mode != WaitMode::Poll {
            self.shrink();
        }
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        self.ring.submit()
    }

    fn gauges(&self) -> Gauges {
        Gauges {
            armed: self.slots.armed(),
            open_pidfds: self.open_pidfds,
            enters: self.ring.enters(),
        }
    }

    fn new_pidfds(&self) -> Option<Arc<NewPidfds>> {
        self.new_watches.pidfds()
    }

    fn insert_new(&mut self, guard: DeliveryGuard, pidfd: OwnedFd) -> io::Result<()> {
        Uring::insert_new(self, guard, pidfd)
    }

    fn has_new(&self) -> bool {
        !self.new_watches.is_empty()
    }

    fn read_new_pidfds(&mut self) {
        Uring::read_new_pidfds(self);
    }

    fn end_new(&mut self, all: bool, events: &mut Vec<Event>) -> io::Result<()> {
        Uring::end_new(self, all, events)
    }

    fn arm_all_new(&mut self) -> io::Result<()> {
        Uring::arm_all_new(self)
    }
}
