//! The io_uring backend: one-shot polls on pidfds that are closed once armed.
//!
//! A watch's way through: arming puts the pidfd where its identity is kept and stages a `POLL_ADD`
//! and a close; the poll's completion says that the process ended; if a descriptor is needed to
//! read the status, the watch stands in line for one (`claims.rs`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::opcode;
use io_uring::types::Fd;

use super::abandoned::{self, Abandoned};
use super::claims::Claims;
use super::engine::{Engine, Event, Evidence, Gauges, Patience, earlier};
use super::resting::{RETRY_AFTER, Resting};
use super::ring::{Completion, Ring};
use super::slots::{Hold, Slots, Stage};
use super::support;
use super::token::{Kind, Token};
use crate::duty::Duty;
use crate::error::BuildError;
use crate::faults;
use crate::record::Record;
use crate::shrink::ShrinkIfSparse;
use crate::stop::Stop;
use crate::sys;

/// A poll that is taken back is over within microseconds.
const TRIAL: Duration = Duration::from_secs(10);

pub(crate) struct Uring {
    // The ring goes first: with it the kernel's requests end.
    pub(super) ring: Ring,
    pub(super) slots: Slots,
    /// The mailbox's, which stays open until the mailbox is closed, after the last wait.
    eventfd: RawFd,
    /// Given up when a descriptor is needed and there is none.
    pub(super) spare: Option<OwnedFd>,
    /// Ended, and in line for a descriptor.
    pub(super) claims: Claims,
    /// Slots that are [`Stage::Resting`].
    resting: Resting,
    /// Polls of watches that were given up.
    abandoned: Abandoned,
    /// The poll of the eventfd failed, and is armed again then. Until then nothing wakes a wait.
    wake_again: Option<Instant>,
    /// Found out while arming; the next wait returns them.
    pub(super) early: Vec<Event>,
    /// Watches that hold a descriptor.
    pub(super) held: usize,
}

impl Uring {
    /// Opens a ring of which the calling thread is the only user. `eventfd` wakes it, and
    /// outlives it.
    pub(crate) fn open(eventfd: BorrowedFd<'_>, stop: Arc<Stop>) -> Result<Self, BuildError> {
        let mut uring = Self {
            ring: Ring::open(stop)?,
            slots: Slots::new(),
            eventfd: eventfd.as_raw_fd(),
            spare: sys::duplicate(eventfd.as_raw_fd()).ok(),
            claims: Claims::new(),
            resting: Resting::default(),
            abandoned: Abandoned::new(),
            wake_again: None,
            early: Vec::new(),
            held: 0,
        };
        uring.try_out()?;
        Ok(uring)
    }

    /// Arms the wake-up, and finds out if pidfds can be polled by polling one and taking that back.
    fn try_out(&mut self) -> Result<(), BuildError> {
        let me = support::own_pidfd()?;
        // No slot has this one yet.
        let trial = Token {
            kind: Kind::Poll,
            key: 0,
            generation: 0,
        };
        let poll = opcode::PollAdd::new(Fd(me.as_raw_fd()), libc::POLLIN as u32).build();
        let remove = opcode::PollRemove::new(trial.pack()).build();
        self.arm_wake()
            .and_then(|()| self.ring.push(poll.user_data(trial.pack())))
            .and_then(|()| self.ring.push_quiet(remove))
            .map_err(support::enter_denied)?;
        let until = Instant::now() + TRIAL;
        while Instant::now() < until {
            self.ring
                .enter(Patience::One, Some(TRIAL))
                .map_err(support::enter_denied)?;
            while let Some(completion) = self.ring.next_completion() {
                match (completion.token.kind, -completion.result) {
                    // A kernel without multishot polls refuses at once.
                    (Kind::Wake, _) if !completion.more => {
                        return Err(BuildError::IoUringTooOld {
                            missing: "IORING_POLL_ADD_MULTI (Linux 5.13)",
                        });
                    }
                    (Kind::Poll, libc::ECANCELED) => return Ok(()),
                    (Kind::Poll, errno) => return Err(support::poll_denied(errno)),
                    _ => {}
                }
            }
        }
        Err(support::poll_denied(libc::ETIME))
    }

    fn arm_wake(&mut self) -> io::Result<()> {
        // Multishot: one completion per ring of the bell, and the count is never read.
        let poll = opcode::PollAdd::new(Fd(self.eventfd), libc::POLLIN as u32)
            .multi(true)
            .build();
        self.ring.push(poll.user_data(Token::WAKE.pack()))
    }

    pub(super) fn refill_spare(&mut self) {
        self.spare = sys::duplicate(self.eventfd).ok();
    }

    // ---- the end of a watch

    /// The watch is over: frees the slot and what it holds.
    pub(super) fn ended(
        &mut self,
        key: u32,
        evidence: Evidence,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let (duty, hold) = self.slots.remove(key);
        self.release(hold)?;
        events.push(Event::Ended(duty, evidence));
        Ok(())
    }

    /// The watch is over, and held a descriptor itself.
    pub(super) fn ended_with_own(&mut self, key: u32, events: &mut Vec<Event>) {
        let (duty, hold) = self.slots.remove(key);
        if let Hold::Pidfd(pidfd) = hold {
            self.held -= 1;
            events.push(Event::Ended(duty, Evidence::Pidfd(pidfd)));
        }
    }

    pub(super) fn disarmed(&mut self, key: u32, events: &mut Vec<Event>) -> io::Result<()> {
        let (_duty, hold) = self.slots.remove(key);
        self.release(hold)?;
        events.push(Event::Disarmed);
        Ok(())
    }

    fn release(&mut self, hold: Hold) -> io::Result<()> {
        match hold {
            Hold::Table(slot) => self.ring.unregister(slot),
            Hold::Inode(_) | Hold::Owned(_) => Ok(()),
            Hold::Pidfd(pidfd) => {
                self.held -= 1;
                self.ring.close(pidfd)
            }
        }
    }

    // ---- watches that wait for the clock

    fn next_rest(&self) -> Option<Duration> {
        let now = Instant::now();
        let resting = self.resting.next().into_iter();
        let next = resting
            .chain(self.claims.rest_until())
            .chain(self.wake_again)
            .chain(self.abandoned.next(now))
            .min()?;
        Some(next.saturating_duration_since(now))
    }

    fn work_off_resting(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        if self.resting.is_empty()
            && self.claims.rest_until().is_none()
            && self.wake_again.is_none()
        {
            return Ok(());
        }
        let now = Instant::now();
        self.claims.wake_up(now);
        if self.wake_again.is_some_and(|at| at <= now) {
            self.wake_again = None;
            self.arm_wake()?;
        }
        while let Some(key) = self.resting.pop_due(now) {
            match self.slots.is_given_up(key) {
                true => self.disarmed(key, events)?,
                false => self.rearm(key)?,
            }
        }
        Ok(())
    }

    /// Removes some polls of watches that were given up, if that is due.
    fn remove_abandoned(&mut self) -> io::Result<()> {
        if self.abandoned.len() == 0 {
            return Ok(());
        }
        let began = Instant::now();
        if self.abandoned.next(began).is_some_and(|next| next > began) {
            return Ok(());
        }
        loop {
            let mut some = false;
            for poll in self.abandoned.take(began) {
                let remove = opcode::PollRemove::new(poll.pack()).build();
                self.ring.push_quiet(remove)?;
                some = true;
            }
            if !some {
                break;
            }
            self.ring.submit()?;
        }
        self.abandoned.rest(began);
        Ok(())
    }

    pub(super) fn rest(&mut self, key: u32) {
        self.slots.set_stage(key, Stage::Resting);
        self.resting.push(key);
    }

    fn shrink(&mut self) {
        self.slots.shrink();
        self.claims.shrink();
        self.resting.shrink();
        self.early.shrink_if_sparse();
        self.ring.shrink();
    }

    // ---- completions

    fn work_off_completions(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        while let Some(completion) = self.ring.next_completion() {
            match completion.token.kind {
                Kind::Poll => self.poll_completed(completion, events)?,
                Kind::Install => self.install_completed(completion, events)?,
                Kind::Confirm => self.confirm_completed(completion, events)?,
                // What failed (for want of memory) would fail again at once.
                Kind::Wake if completion.result < 0 => {
                    self.wake_again = Some(Instant::now() + RETRY_AFTER);
                }
                Kind::Wake if !completion.more => self.arm_wake()?,
                // A test has the poll fail by having it taken away.
                Kind::Wake if faults::strike("wake").is_err() => {
                    let remove = opcode::PollRemove::new(Token::WAKE.pack()).build();
                    self.ring.push_quiet(remove)?;
                }
                Kind::Wake | Kind::Quiet => {}
            }
        }
        self.claims.put_back_refused();
        Ok(())
    }

    fn poll_completed(
        &mut self,
        completion: Completion,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let Some(key) = self.slots.find(completion.token) else {
            // Given up, and completed by itself or removed.
            self.abandoned.completed(completion.token);
            return Ok(());
        };
        // What strikes here has ended, and is found ended again when it is armed again.
        if self.slots.is_given_up(key) {
            return self.disarmed(key, events);
        }
        if completion.result < 0 || faults::strike("POLL_ADD").is_err() {
            // ENOMEM, or worse: the process has not ended, so try until it works.
            self.rest(key);
            return Ok(());
        }
        self.slots.get(key).reaped = completion.result & i32::from(libc::POLLHUP) != 0;
        self.slots.set_stage(key, Stage::Claiming);
        self.claims.push(key);
        Ok(())
    }
}

impl Engine for Uring {
    fn arm(&mut self, duty: Duty, pidfd: Option<OwnedFd>) -> io::Result<()> {
        match pidfd {
            Some(pidfd) => {
                let (hold, target, close) = self.place(pidfd, duty.record().moment());
                let key = self.slots.insert(duty, hold, Stage::Armed);
                self.stage_poll(key, target, close)
            }
            // Its pidfd can be opened here and now, out of what is kept aside if need be.
            None => {
                let key = self.slots.insert(duty, Hold::Owned(None), Stage::Resting);
                self.rearm(key)
            }
        }
    }

    fn arm_later(&mut self, duty: Duty, pidfd: Option<OwnedFd>) -> io::Result<()> {
        let (hold, close) = match pidfd {
            Some(pidfd) => {
                let (hold, _, close) = self.place(pidfd, duty.record().moment());
                (hold, close)
            }
            None => (Hold::Owned(None), None),
        };
        let key = self.slots.insert(duty, hold, Stage::Resting);
        self.rest(key);
        close.map_or(Ok(()), |pidfd| self.ring.close(pidfd))
    }

    fn disarm(&mut self, record: &Record) -> io::Result<()> {
        let Some(token) = Token::unpack(record.token()) else {
            return Ok(());
        };
        let Some(key) = self.slots.find(token) else {
            return Ok(());
        };
        // One that is in a line is seen to when its turn comes.
        if self.slots.stage(key) != Stage::Armed {
            return Ok(());
        }
        // The poll holds the file by itself. Its late completion finds no slot with its generation.
        match self.abandoned.len() < abandoned::MAX {
            true => self.abandoned.push(token),
            false => {
                let remove = opcode::PollRemove::new(token.pack()).build();
                self.ring.push_quiet(remove)?;
            }
        }
        let mut early = std::mem::take(&mut self.early);
        let disarmed = self.disarmed(key, &mut early);
        self.early = early;
        disarmed
    }

    fn close(&mut self, fd: OwnedFd) -> io::Result<()> {
        self.ring.close(fd)
    }

    fn wait(
        &mut self,
        patience: Patience,
        timeout: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        self.work_off_resting(events)?;
        self.work_off_claims(events)?;
        self.remove_abandoned()?;
        events.append(&mut self.early);
        // An enter that ran out of memory may have copied completions out on the way.
        let busy = !events.is_empty() || self.ring.has_completions() || self.claims.can_go_on();
        match busy {
            true => self.ring.submit()?,
            false => self
                .ring
                .enter(patience, earlier(timeout, self.next_rest()))?,
        }
        self.work_off_completions(events)?;
        if self.claims.can_go_on() {
            // A claim is answered within the enter that asks, so the status of a lone
            // exit need not wait for the next round.
            self.work_off_claims(events)?;
            self.ring.submit()?;
            self.work_off_completions(events)?;
        }
        if self.spare.is_none() {
            self.refill_spare();
        }
        // Not while there is more to do: with hundreds of thousands of slots it takes milliseconds.
        if patience != Patience::None {
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
            held: self.held,
            enters: self.ring.enters(),
        }
    }
}
