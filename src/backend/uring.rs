//! The io_uring backend: one-shot polls on pidfds that are closed once armed.
//!
//! A watch's way through: `arm` puts the pidfd where its identity is kept and stages a
//! `POLL_ADD` and a close; the poll's completion says that the process ended; if a descriptor
//! is needed to read the status, the watch stands in line for one (`claims`), a few at a time,
//! so that a storm never needs many descriptors at once.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::types::{Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, opcode, squeue};

use super::file_table::FileTable;
use super::slots::{Hold, Slots, Stage};
use super::support::{self, Features};
use super::token::{Kind, Token};
use super::{Event, Evidence, Patience};
use crate::error::{BuildError, SystemError};
use crate::record::{Duty, Record};
use crate::sys;

/// How many completions a patient wait waits for. Few enough that the first of them is
/// not kept long, enough that the wake-up is shared.
const BATCH: usize = 64;
/// How long a patient wait keeps the first completion back at most.
const BATCH_WAIT: Duration = Duration::from_micros(500);
/// Descriptors open at a time for reading statuses.
const CLAIMS_MAX: usize = 16;
/// When something ran out, the next try is after this time,
const RETRY_AFTER: Duration = Duration::from_millis(10);
/// and for a status there are this many tries: half a second.
const CLAIM_TRIES: u8 = 50;

pub(crate) struct Uring {
    // The ring goes first: with it the kernel's requests end.
    ring: IoUring,
    features: Features,
    table: FileTable,
    slots: Slots,
    /// The mailbox's, which stays open until the mailbox is closed, after the last wait.
    eventfd: RawFd,
    /// Given up when a descriptor is needed and there is none.
    spare: Option<OwnedFd>,
    /// Ended, and in line for a descriptor.
    claims: VecDeque<u32>,
    /// Asked of the kernel, which has not answered.
    claiming: usize,
    /// Asked in vain, and not back in line yet.
    unclaimed: Vec<u32>,
    /// How many may be asked for at a time.
    claims_max: usize,
    /// Nothing is claimed before.
    claims_rest: Option<Instant>,
    /// Slots that are [`Stage::Resting`], and until when, in that order.
    resting: VecDeque<(Instant, u32)>,
    /// Copied out of the ring before anything is done about them.
    completions: VecDeque<(u64, i32, u32)>,
    /// Watches that hold a descriptor.
    held: usize,
    enters: u64,
}

impl Uring {
    /// Opens a ring of which the calling thread is the only user. `eventfd` wakes it, and
    /// outlives it.
    pub(crate) fn open(eventfd: BorrowedFd<'_>) -> Result<Self, BuildError> {
        let opened = support::open()?;
        let mut uring = Self {
            ring: opened.ring,
            features: opened.features,
            table: opened.table,
            slots: Slots::new(),
            eventfd: eventfd.as_raw_fd(),
            spare: None,
            claims: VecDeque::new(),
            claiming: 0,
            unclaimed: Vec::new(),
            claims_max: CLAIMS_MAX,
            claims_rest: None,
            resting: VecDeque::new(),
            completions: VecDeque::new(),
            held: 0,
            enters: 0,
        };
        uring.refill_spare();
        uring
            .arm_wake()
            .and_then(|()| uring.submit())
            .map_err(|source| SystemError {
                call: "io_uring_enter",
                source,
            })?;
        uring.collect();
        // A kernel without multishot polls refuses at once.
        match uring.completions.pop_front() {
            None => Ok(uring),
            Some(_) => Err(BuildError::IoUringTooOld {
                missing: "IORING_POLL_ADD_MULTI (Linux 5.13)",
            }),
        }
    }

    /// Watches the process behind the pidfd.
    pub(crate) fn arm(&mut self, duty: Duty, pidfd: OwnedFd) -> io::Result<()> {
        let (hold, poll, close) = self.place(pidfd);
        let key = self.slots.insert(duty, hold, Stage::Armed);
        self.stage_poll(key, poll, close)
    }

    /// As [`arm`](Self::arm), after a while: the process ended, and its status is not to be had yet.
    pub(crate) fn arm_later(&mut self, duty: Duty, pidfd: OwnedFd) -> io::Result<()> {
        let (hold, _, close) = self.place(pidfd);
        let key = self.slots.insert(duty, hold, Stage::Resting);
        self.rest(key);
        close.map_or(Ok(()), |pidfd| self.close(pidfd))
    }

    /// Stops watching. The slot is freed when the kernel has said its last word: an event
    /// follows, which may be the process's end if that came first.
    pub(crate) fn disarm(&mut self, record: &Record) -> io::Result<()> {
        let Some(token) = Token::unpack(record.token()) else {
            return Ok(());
        };
        let Some(key) = self.slots.find(token) else {
            return Ok(());
        };
        self.slots.get(key).unwanted = true;
        if self.slots.stage(key) == Stage::Armed {
            let remove = opcode::PollRemove::new(token.pack()).build();
            self.push_quiet(remove)?;
        }
        Ok(())
    }

    /// Closes a descriptor with the next enter.
    pub(crate) fn close(&mut self, fd: OwnedFd) -> io::Result<()> {
        let close = opcode::Close::new(Fd(fd.into_raw_fd())).build();
        self.push_quiet(close)
    }

    /// Carries out what was staged, waits, and says what happened. It may return without an
    /// event, and before `timeout`.
    pub(crate) fn wait(
        &mut self,
        patience: Patience,
        timeout: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        self.work_off_resting(events)?;
        self.work_off_claims(events)?;
        let rest = self.next_rest();
        // An enter that ran out of memory may have copied completions out on the way.
        let busy = !events.is_empty() || !self.completions.is_empty() || self.can_claim();
        match busy {
            true => self.enter(Patience::None, None)?,
            false => self.enter(patience, earlier(timeout, rest))?,
        }
        self.collect();
        self.work_off_completions(events)?;
        if self.can_claim() {
            // A claim is answered within the enter that asks, so the status of a lone
            // exit need not wait for the next round.
            self.work_off_claims(events)?;
            self.submit()?;
            self.collect();
            self.work_off_completions(events)?;
        }
        if self.spare.is_none() {
            self.refill_spare();
        }
        Ok(())
    }

    /// Carries out what was staged.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        self.enter(Patience::None, None)
    }

    pub(crate) fn armed(&self) -> usize {
        self.slots.armed()
    }

    /// How many watches hold a descriptor.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    pub(crate) fn enters(&self) -> u64 {
        self.enters
    }

    // ---- arming

    /// Puts the pidfd where the identity is kept. The result also says what to poll, and
    /// what to close once the poll is armed: the poll itself keeps the file open.
    fn place(&mut self, pidfd: OwnedFd) -> (Hold, Target, Option<OwnedFd>) {
        if let Some(slot) = self.table.take() {
            let raw = [pidfd.as_raw_fd()];
            match self.ring.submitter().register_files_update(slot, &raw) {
                Ok(_) => return (Hold::Table(slot), Target::Slot(slot), Some(pidfd)),
                Err(_) => self.table.put_back(slot),
            }
        }
        let target = Target::Descriptor(pidfd.as_raw_fd());
        if self.features.pidfs
            && let Some(inode) = sys::pidfs_inode(pidfd.as_fd())
        {
            return (Hold::Inode(inode), target, Some(pidfd));
        }
        self.held += 1;
        (Hold::Pidfd(pidfd), target, None)
    }

    fn stage_poll(&mut self, key: u32, target: Target, close: Option<OwnedFd>) -> io::Result<()> {
        let mask = libc::POLLIN as u32;
        let poll = match target {
            Target::Slot(slot) => opcode::PollAdd::new(Fixed(slot), mask).build(),
            Target::Descriptor(fd) => opcode::PollAdd::new(Fd(fd), mask).build(),
        };
        let token = self.slots.token(key, Kind::Poll);
        self.push(poll.user_data(token.pack()))?;
        match close {
            // Requests are carried out in the order in which they were put in, so the poll
            // has its file by then.
            Some(pidfd) => self.close(pidfd),
            None => Ok(()),
        }
    }

    fn arm_wake(&mut self) -> io::Result<()> {
        // Multishot: one completion per ring of the bell, and the count is never read.
        let poll = opcode::PollAdd::new(Fd(self.eventfd), libc::POLLIN as u32)
            .multi(true)
            .build();
        self.push(poll.user_data(Token::WAKE.pack()))
    }

    // ---- ended watches in need of a descriptor

    /// Whether the line moves: it does not while it rests because descriptors ran out.
    fn can_claim(&self) -> bool {
        !self.claims.is_empty() && self.claims_rest.is_none()
    }

    /// Gets descriptors for the first in line.
    fn work_off_claims(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let mut open = events
            .iter()
            .filter(|event| matches!(event, Event::Ended(_, Evidence::Pidfd(_))))
            .count();
        while open + self.claiming < self.claims_max && self.can_claim() {
            let Some(key) = self.claims.pop_front() else {
                break;
            };
            let inode = match self.slots.get(key).hold {
                Hold::Table(slot) => {
                    let install = opcode::FixedFdInstall::new(Fixed(slot), 0).build();
                    let token = self.slots.token(key, Kind::Install);
                    self.push(install.user_data(token.pack()))?;
                    self.claiming += 1;
                    continue;
                }
                _ if self.claiming > 0 => {
                    // Exits keep their order: this one's descriptor could be had at once, but
                    // the ones before have theirs only after the next enter.
                    self.claims.push_front(key);
                    break;
                }
                Hold::Inode(inode) => inode,
                Hold::Pidfd(_) => {
                    self.ended_with_own(key, events);
                    continue;
                }
            };
            match self.reopen(key, inode)? {
                Reopened::Pidfd(pidfd) => {
                    open += 1;
                    self.claim_worked();
                    self.ended(key, Evidence::Pidfd(pidfd), events)?;
                }
                Reopened::Reaped => self.ended(key, Evidence::Reaped, events)?,
                Reopened::NoDescriptor(errno) => {
                    if !self.claim_failed(key, errno, events)? {
                        self.claims.push_front(key);
                    }
                }
            }
        }
        Ok(())
    }

    /// Opens the pidfd of a process by its pid again, if it is still the same process.
    fn reopen(&mut self, key: u32, inode: u64) -> io::Result<Reopened> {
        let pid = self.slots.get(key).duty.record().pid();
        let pidfd = match sys::pidfd_open(pid) {
            Err(error) if is_no_descriptor(&error) => {
                // Some closes may only be staged.
                self.submit()?;
                sys::pidfd_open(pid)
            }
            other => other,
        };
        Ok(match pidfd {
            // The pid may be another's by now. The inode number is never.
            Ok(pidfd) if sys::pidfs_inode(pidfd.as_fd()) == Some(inode) => Reopened::Pidfd(pidfd),
            Err(error) if is_no_descriptor(&error) => {
                Reopened::NoDescriptor(error.raw_os_error().unwrap_or(0))
            }
            // Nobody has the pid, or a thread has it, or another process.
            _ => Reopened::Reaped,
        })
    }

    /// There was a descriptor: ask for more at a time again.
    fn claim_worked(&mut self) {
        self.claims_max = (self.claims_max + 1).min(CLAIMS_MAX);
    }

    /// There was no descriptor for a status: ask for one at a time, and give up the spare for it, else
    /// rest, else do without. `false`: the watch goes back to the head of the line.
    fn claim_failed(&mut self, key: u32, errno: i32, events: &mut Vec<Event>) -> io::Result<bool> {
        self.claims_max = 1;
        if self.spare.take().is_some() {
            return Ok(false);
        }
        let slot = self.slots.get(key);
        slot.tries += 1;
        if slot.tries >= CLAIM_TRIES {
            self.ended(key, Evidence::NoDescriptor(errno), events)?;
            return Ok(true);
        }
        self.claims_rest = Some(Instant::now() + RETRY_AFTER);
        Ok(false)
    }

    fn refill_spare(&mut self) {
        // SAFETY: the descriptor is open as long as the ring is in use, see the field.
        let eventfd = unsafe { BorrowedFd::borrow_raw(self.eventfd) };
        self.spare = eventfd.try_clone_to_owned().ok();
    }

    /// The watch is over: frees the slot and what it holds.
    fn ended(&mut self, key: u32, evidence: Evidence, events: &mut Vec<Event>) -> io::Result<()> {
        let (duty, hold) = self.slots.remove(key);
        self.release(hold)?;
        events.push(Event::Ended(duty, evidence));
        Ok(())
    }

    /// The watch is over, and held a descriptor itself.
    fn ended_with_own(&mut self, key: u32, events: &mut Vec<Event>) {
        let (duty, hold) = self.slots.remove(key);
        if let Hold::Pidfd(pidfd) = hold {
            self.held -= 1;
            events.push(Event::Ended(duty, Evidence::Pidfd(pidfd)));
        }
    }

    fn disarmed(&mut self, key: u32, events: &mut Vec<Event>) -> io::Result<()> {
        let (_duty, hold) = self.slots.remove(key);
        self.release(hold)?;
        events.push(Event::Disarmed);
        Ok(())
    }

    fn release(&mut self, hold: Hold) -> io::Result<()> {
        match hold {
            Hold::Table(slot) => {
                self.push_quiet(opcode::Close::new(Fixed(slot)).build())?;
                self.table.closing(slot);
                Ok(())
            }
            Hold::Inode(_) => Ok(()),
            Hold::Pidfd(pidfd) => {
                self.held -= 1;
                self.close(pidfd)
            }
        }
    }

    // ---- watches that wait for the clock

    fn next_rest(&self) -> Option<Duration> {
        let resting = self.resting.front().map(|(at, _)| *at);
        let next = resting.into_iter().chain(self.claims_rest).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn work_off_resting(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        if self.resting.is_empty() && self.claims_rest.is_none() {
            return Ok(());
        }
        let now = Instant::now();
        self.claims_rest = self.claims_rest.filter(|at| *at > now);
        while let Some((_, key)) = self.resting.pop_front_if(|(at, _)| *at <= now) {
            match self.slots.get(key).unwanted {
                true => self.disarmed(key, events)?,
                false => self.rearm(key, events)?,
            }
        }
        Ok(())
    }

    /// Arms a watch again whose poll failed, or whose process was not quite over.
    fn rearm(&mut self, key: u32, events: &mut Vec<Event>) -> io::Result<()> {
        let (target, close) = match &self.slots.get(key).hold {
            Hold::Table(slot) => (Target::Slot(*slot), None),
            Hold::Pidfd(pidfd) => (Target::Descriptor(pidfd.as_raw_fd()), None),
            Hold::Inode(inode) => {
                let inode = *inode;
                match self.reopen(key, inode)? {
                    Reopened::Pidfd(pidfd) => (Target::Descriptor(pidfd.as_raw_fd()), Some(pidfd)),
                    Reopened::Reaped => return self.ended(key, Evidence::Reaped, events),
                    Reopened::NoDescriptor(_) => {
                        self.rest(key);
                        return Ok(());
                    }
                }
            }
        };
        self.slots.set_stage(key, Stage::Armed);
        self.stage_poll(key, target, close)
    }

    fn rest(&mut self, key: u32) {
        // All rest equally long, so the line is in order.
        let until = Instant::now() + RETRY_AFTER;
        self.slots.set_stage(key, Stage::Resting);
        self.resting.push_back((until, key));
    }

    // ---- completions

    fn work_off_completions(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        while let Some((user_data, result, flags)) = self.completions.pop_front() {
            let Some(token) = Token::unpack(user_data) else {
                debug_assert!(false, "a completion of no request of ours");
                continue;
            };
            match token.kind {
                Kind::Poll => self.poll_completed(token, result, events)?,
                Kind::Install => self.install_completed(token, result, events)?,
                Kind::Wake if !io_uring::cqueue::more(flags) => self.arm_wake()?,
                Kind::Wake | Kind::Quiet => {}
            }
        }
        // Back to the head of the line, in their order.
        while let Some(key) = self.unclaimed.pop() {
            self.claims.push_front(key);
        }
        Ok(())
    }

    fn poll_completed(
        &mut self,
        token: Token,
        result: i32,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let Some(key) = self.slots.find(token) else {
            debug_assert!(false, "a slot was freed before its poll completed");
            return Ok(());
        };
        if result < 0 {
            if self.slots.get(key).unwanted {
                return self.disarmed(key, events);
            }
            // ENOMEM, or worse: the process has not ended, so try until it works.
            self.rest(key);
            return Ok(());
        }
        self.slots.set_stage(key, Stage::Claiming);
        self.claims.push_back(key);
        Ok(())
    }

    fn install_completed(
        &mut self,
        token: Token,
        result: i32,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        self.claiming -= 1;
        if result >= 0 {
            // SAFETY: a FIXED_FD_INSTALL that succeeds gives a new descriptor, ours alone.
            let pidfd = unsafe { OwnedFd::from_raw_fd(result) };
            self.claim_worked();
            return match self.slots.find(token) {
                Some(key) => self.ended(key, Evidence::Pidfd(pidfd), events),
                None => self.close(pidfd),
            };
        }
        let Some(key) = self.slots.find(token) else {
            return Ok(());
        };
        if !self.claim_failed(key, -result, events)? {
            self.unclaimed.push(key);
        }
        Ok(())
    }

    // ---- the ring itself

    fn push_quiet(&mut self, entry: squeue::Entry) -> io::Result<()> {
        let entry = entry.user_data(Token::QUIET.pack());
        self.push(match self.features.skip_success {
            true => entry.flags(squeue::Flags::SKIP_SUCCESS),
            false => entry,
        })
    }

    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: no request refers to memory of ours; descriptors and slots in them
            // stay what they are until the request is carried out, in order.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            self.submit()?;
        }
    }

    fn enter(&mut self, patience: Patience, timeout: Option<Duration>) -> io::Result<()> {
        loop {
            let (staged, flagged) = {
                let queue = self.ring.submission();
                (queue.len(), queue.taskrun() || queue.cq_overflow())
            };
            if patience == Patience::None && staged == 0 && !flagged {
                return Ok(());
            }
            match self.enter_once(staged as u32, patience, timeout) {
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    // The time is up.
                    Some(libc::ETIME) => {}
                    Some(libc::EINTR) => {
                        if patience != Patience::None {
                            return Ok(());
                        }
                    }
                    // EBUSY: completions have to be taken first. EAGAIN: no memory at the moment.
                    Some(libc::EBUSY | libc::EAGAIN) => {
                        self.collect();
                        std::thread::sleep(Duration::from_micros(100));
                    }
                    _ => return Err(error),
                },
            }
            if self.ring.submission().is_empty() {
                self.table.submitted();
                return Ok(());
            }
            if patience != Patience::None {
                // Waited, though not all was taken; the next round submits the rest.
                return Ok(());
            }
        }
    }

    fn enter_once(
        &mut self,
        staged: u32,
        patience: Patience,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let want = match patience {
            Patience::None => 0,
            Patience::One => 1,
            Patience::Batch => BATCH as u32,
        };
        let mut flags = EnterFlags::EXT_ARG | EnterFlags::GETEVENTS;
        if self.features.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        // Without a minimum wait of the kernel's, a batch is a short time-out.
        let timeout = match patience {
            Patience::Batch if !self.features.min_wait => earlier(timeout, Some(BATCH_WAIT)),
            _ => timeout,
        };
        let timespec;
        let mut args = SubmitArgs::new();
        if let Some(timeout) = timeout {
            timespec = Timespec::from(timeout);
            args = args.timespec(&timespec);
        }
        if patience == Patience::Batch && self.features.min_wait {
            args = args.min_wait_usec(BATCH_WAIT.as_micros() as u32);
        }
        self.enters += 1;
        // SAFETY: the arguments are those of io_uring_enter(2): as many entries as are
        // staged, and an io_uring_getevents_arg, which SubmitArgs is, with EXT_ARG.
        unsafe {
            self.ring
                .submitter()
                .enter(staged, want, flags.bits(), Some(&args))?;
        }
        Ok(())
    }

    /// Copies the completions out.
    fn collect(&mut self) {
        let queue = self.ring.completion();
        self.completions
            .extend(queue.map(|entry| (entry.user_data(), entry.result(), entry.flags())));
    }
}

impl Drop for Uring {
    /// Carries out the closes that are staged: descriptors in the submission queue are nobody
    /// else's to close. Bounded, as the ring may be the very thing that is broken.
    fn drop(&mut self) {
        for _ in 0..100 {
            let staged = self.ring.submission().len();
            if staged == 0
                || self
                    .enter_once(staged as u32, Patience::None, None)
                    .is_err()
            {
                return;
            }
            self.collect();
        }
    }
}

/// What came of opening a pidfd again.
enum Reopened {
    Pidfd(OwnedFd),
    Reaped,
    NoDescriptor(i32),
}

fn is_no_descriptor(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    )
}

/// What a poll is armed on.
enum Target {
    Slot(u32),
    Descriptor(RawFd),
}

fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
