//! The io_uring backend: one-shot polls on pidfds that are closed once armed.
//!
//! A watch's way through: arming puts the pidfd where its identity is kept and stages a `POLL_ADD`
//! and a close; the poll's completion says that the process ended; if a descriptor is needed to
//! read the status, the watch stands in line for one (`claims.rs`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::opcode;
use io_uring::types::{Fd, Fixed};

use super::abandoned::{self, Abandoned};
use super::claims::Claims;
use super::engine::{Engine, Event, Evidence, Gauges, Patience, earlier, no_descriptor};
use super::resting::{RETRY_AFTER, Resting};
use super::ring::{Completion, Ring};
use super::slots::{Hold, Slots, Stage};
use super::support;
use super::token::{Kind, Token};
use crate::duty::Duty;
use crate::error::BuildError;
use crate::faults;
use crate::record::{Kin, Moment, Record};
use crate::shrink::ShrinkIfSparse;
use crate::stop::Stop;
use crate::sys::{self, Ask, Waited};

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
    early: Vec<Event>,
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

    // ---- arming

    /// Puts the pidfd where the identity is kept. The result also says what to poll, and
    /// what to close once the poll is armed: the poll itself keeps the file open.
    fn place(&mut self, pidfd: OwnedFd, moment: Moment) -> (Hold, Target, Option<OwnedFd>) {
        if let Some(slot) = self.ring.register(&pidfd) {
            return (Hold::Table(slot), Target::Slot(slot), Some(pidfd));
        }
        let target = Target::Descriptor(pidfd.as_raw_fd());
        // A process is found again by its pid only until it is reaped.
        if moment == Moment::Exited
            && self.ring.features().pidfs
            && let Some(inode) = sys::pidfs_inode(pidfd.as_fd())
        {
            return (Hold::Inode(inode), target, Some(pidfd));
        }
        self.held += 1;
        (Hold::Pidfd(pidfd), target, None)
    }

    fn stage_poll(&mut self, key: u32, target: Target, close: Option<OwnedFd>) -> io::Result<()> {
        let mask = match self.slots.get(key).duty.record().moment() {
            Moment::Exited => libc::POLLIN as u32,
            // POLLHUP is always told, so this waits for nothing else (Linux 6.9).
            Moment::Reaped => 0,
        };
        let poll = match target {
            Target::Slot(slot) => opcode::PollAdd::new(Fixed(slot), mask).build(),
            Target::Descriptor(fd) => opcode::PollAdd::new(Fd(fd), mask).build(),
        };
        let token = self.slots.token(key, Kind::Poll);
        self.ring.push(poll.user_data(token.pack()))?;
        match close {
            // Requests are carried out in the order in which they were put in, so the poll
            // has its file by then.
            Some(pidfd) => self.ring.close(pidfd),
            None => Ok(()),
        }
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

    /// Arms a watch whose slot is filled: a child of ours, or again, because the poll failed or the
    /// process was not quite over.
    fn rearm(&mut self, key: u32) -> io::Result<()> {
        let (target, close) = match self.slots.get(key).hold {
            Hold::Table(slot) => (Target::Slot(slot), None),
            Hold::Pidfd(ref pidfd) => (Target::Descriptor(pidfd.as_raw_fd()), None),
            Hold::Inode(_) | Hold::Owned(_) => match self.reopen(key)? {
                Reopened::Pidfd(pidfd) => (Target::Descriptor(pidfd.as_raw_fd()), Some(pidfd)),
                Reopened::Ended(pidfd) => {
                    // One system call, as an enter for it would be; and often there is nothing else to enter for.
                    drop(pidfd);
                    let inode = self.slots.get(key).inode();
                    let evidence = Evidence::Owned {
                        pidfd: None,
                        inode,
                        late: false,
                    };
                    return self.ended_early(key, evidence);
                }
                Reopened::Reaped => return self.ended_early(key, Evidence::Reaped),
                Reopened::NoDescriptor(_) => return self.without_descriptor(key),
            },
        };
        self.slots.set_stage(key, Stage::Armed);
        self.stage_poll(key, target, close)?;
        if self.spare.is_none() {
            // Opened with the last descriptor there was: give it back, and set one aside.
            self.ring.submit()?;
            self.refill_spare();
        }
        Ok(())
    }

    /// Nothing can be armed for want of a descriptor. A child of ours that has ended needs none.
    fn without_descriptor(&mut self, key: u32) -> io::Result<()> {
        let slot = self.slots.get(key);
        if let Hold::Owned(inode) = slot.hold
            && !matches!(
                sys::waitid(Ask::LookAtChild(slot.duty.record().pid())),
                Ok(Waited::NotYet)
            )
        {
            // Nobody looked for as long as there was no descriptor.
            let evidence = Evidence::Owned {
                pidfd: None,
                inode,
                late: true,
            };
            return self.ended_early(key, evidence);
        }
        self.rest(key);
        Ok(())
    }

    /// As [`ended`](Self::ended), while arming.
    fn ended_early(&mut self, key: u32, evidence: Evidence) -> io::Result<()> {
        let mut early = std::mem::take(&mut self.early);
        let result = self.ended(key, evidence, &mut early);
        self.early = early;
        result
    }

    pub(super) fn rest(&mut self, key: u32) {
        self.slots.set_stage(key, Stage::Resting);
        self.resting.push(key);
    }

    /// Opens a pidfd of a process by its pid, if it is still the same process.
    pub(super) fn reopen(&mut self, key: u32) -> io::Result<Reopened> {
        let slot = self.slots.get(key);
        let (pid, kin, inode) = (
            slot.duty.record().pid(),
            slot.duty.record().kin(),
            slot.inode(),
        );
        let mut pidfd = sys::pidfd_open(pid);
        if is_no_descriptor(&pidfd) {
            // Some closes may only be staged.
            self.ring.submit()?;
            pidfd = sys::pidfd_open(pid);
        }
        if is_no_descriptor(&pidfd) && self.spare.take().is_some() {
            pidfd = sys::pidfd_open(pid);
        }
        Ok(match pidfd {
            // The pid may be another's by now. The inode number is never.
            Ok(pidfd) if inode.is_some() && sys::pidfs_inode(pidfd.as_fd()) != inode => {
                Reopened::Reaped
            }
            // It is ours to reap, unless something else has reaped it and its pid is a stranger's.
            Ok(pidfd) if kin == Kin::Owned => {
                if inode.is_none() && self.ring.features().pidfs {
                    self.slots.get(key).hold = Hold::Owned(sys::inode(pidfd.as_fd()));
                }
                match sys::waitid(Ask::Look(pidfd.as_fd())) {
                    Ok(Waited::NoChild) => Reopened::Reaped,
                    Ok(Waited::Ended(..)) => Reopened::Ended(pidfd),
                    _ => Reopened::Pidfd(pidfd),
                }
            }
            Ok(pidfd) => Reopened::Pidfd(pidfd),
            Err(error) => match no_descriptor(&error) {
                Some(errno) => Reopened::NoDescriptor(errno),
                // Nobody has the pid, or a thread has it.
                None => Reopened::Reaped,
            },
        })
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
        self.shrink();
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

/// What came of opening a pidfd again.
pub(super) enum Reopened {
    Pidfd(OwnedFd),
    /// A child of ours, which has ended.
    Ended(OwnedFd),
    Reaped,
    NoDescriptor(i32),
}

fn is_no_descriptor<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if no_descriptor(error).is_some())
}

/// What a poll is armed on.
enum Target {
    Slot(u32),
    Descriptor(RawFd),
}
