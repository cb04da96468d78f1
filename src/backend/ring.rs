//! The ring itself: requests in, completions out.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, opcode, squeue};

use super::engine::{WaitMode, earlier};
use super::file_table::FileTable;
use super::probe::{self, Features};
use super::stop::Stop;
use super::token::{Kind, Token};
use crate::error::BuildError;
use crate::faults;
use crate::sync::shrink::ShrinkIfSparse;
use crate::sys;

/// How many completions a patient wait waits for. Few enough that the first of them is
/// not kept long, enough that the wake-up is shared.
const BATCH: usize = 64;
/// How long a patient wait keeps the first completion back at most.
const BATCH_WAIT: Duration = Duration::from_micros(500);
/// A request's answer.
pub(super) struct Completion {
    pub(super) token: Token,
    pub(super) result: i32,
    /// The request goes on, and more will come.
    pub(super) more: bool,
}

pub(super) struct Ring {
    ring: IoUring,
    features: Features,
    table: FileTable,
    /// Copied out of the ring before anything is done about them.
    completions: VecDeque<Completion>,
    enters: u64,
    /// No try is repeated from then on.
    stop: Arc<Stop>,
}

impl Ring {
    /// Opens a ring of which the calling thread is the only user.
    pub(super) fn open(stop: Arc<Stop>) -> Result<Self, BuildError> {
        let (ring, table, features) = probe::open()?;
        Ok(Self {
            ring,
            features,
            table,
            completions: VecDeque::new(),
            enters: 0,
            stop,
        })
    }

    pub(super) fn features(&self) -> Features {
        self.features
    }

    pub(super) fn enters(&self) -> u64 {
        self.enters
    }

    /// Puts a file into a free slot of the file table, if there is one.
    pub(super) fn register(&mut self, file: &OwnedFd) -> Option<u32> {
        let slot = self.table.take()?;
        let raw = [file.as_raw_fd()];
        let registered = faults::inject("io_uring_register")
            .and_then(|()| self.ring.submitter().register_files_update(slot, &raw));
        match registered {
            Ok(_) => Some(slot),
            Err(_) => {
                self.table.put_back(slot);
                None
            }
        }
    }

    /// Empties a slot of the file table with the next enter.
    pub(super) fn unregister(&mut self, slot: u32) -> io::Result<()> {
        self.push_quiet(opcode::Close::new(Fixed(slot)).build())?;
        self.table.closing(slot);
        Ok(())
    }

    /// Closes a descriptor with the next enter.
    pub(super) fn close(&mut self, fd: OwnedFd) -> io::Result<()> {
        let close = opcode::Close::new(Fd(fd.as_raw_fd())).build();
        self.push_quiet(close)?;
        // The ring's to close from here on.
        let _ = fd.into_raw_fd();
        Ok(())
    }

    /// The oldest completion that was copied out.
    pub(super) fn next_completion(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    pub(super) fn has_completions(&self) -> bool {
        !self.completions.is_empty()
    }

    fn is_stopping(&self) -> bool {
        self.stop.is_stopping()
    }

    pub(super) fn shrink(&mut self) {
        self.completions.shrink_if_sparse();
    }

    /// Carries out what was staged.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        self.enter(WaitMode::Poll, None)
    }

    /// Stages a request whose success is of no interest.
    pub(super) fn push_quiet(&mut self, entry: squeue::Entry) -> io::Result<()> {
        let entry = entry.user_data(Token::QUIET.pack());
        self.push(match self.features.skip_success {
            true => entry.flags(squeue::Flags::SKIP_SUCCESS),
            false => entry,
        })
    }

    /// Stages a request, to be carried out in order.
    pub(super) fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: no request refers to memory of ours; descriptors and slots in them
            // stay what they are until the request is carried out, in order.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            self.submit()?;
            if self.ring.submission().is_full() && self.is_stopping() {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
    }

    /// Carries out what was staged, waits, and copies out what has completed.
    pub(super) fn enter(&mut self, mode: WaitMode, timeout: Option<Duration>) -> io::Result<()> {
        let result = self.enter_until_submitted(mode, timeout);
        self.collect_completions();
        result
    }

    fn enter_until_submitted(
        &mut self,
        mode: WaitMode,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        loop {
            let (staged, flagged) = {
                let queue = self.ring.submission();
                (queue.len(), queue.taskrun() || queue.cq_overflow())
            };
            if mode == WaitMode::Poll && staged == 0 && !flagged {
                return Ok(());
            }
            match self.enter_once(staged as u32, mode, timeout) {
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    // The time is up.
                    Some(libc::ETIME) => {}
                    Some(libc::EINTR) => {
                        if mode != WaitMode::Poll {
                            return Ok(());
                        }
                    }
                    // EBUSY: completions have to be taken first. EAGAIN: no memory at the moment.
                    Some(libc::EBUSY | libc::EAGAIN) => {
                        self.collect_completions();
                        if self.is_stopping() {
                            return Ok(());
                        }
                        std::thread::sleep(Duration::from_micros(100));
                    }
                    _ => return Err(error),
                },
            }
            if self.ring.submission().is_empty() {
                self.table.submitted();
                return Ok(());
            }
            if mode != WaitMode::Poll {
                // Waited, though not all was taken; the next round submits the rest.
                return Ok(());
            }
        }
    }

    fn enter_once(
        &mut self,
        staged: u32,
        mode: WaitMode,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let want = match mode {
            WaitMode::Poll => 0,
            WaitMode::One => 1,
            WaitMode::Batch => BATCH as u32,
        };
        let mut flags = EnterFlags::EXT_ARG | EnterFlags::GETEVENTS;
        if self.features.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        // Without a minimum wait of the kernel's, a batch is a short time-out.
        let timeout = match mode {
            WaitMode::Batch if !self.features.min_wait => earlier(timeout, Some(BATCH_WAIT)),
            _ => timeout,
        };
        let timespec;
        let mut args = SubmitArgs::new();
        if let Some(timeout) = timeout {
            timespec = Timespec::from(timeout);
            args = args.timespec(&timespec);
        }
        if mode == WaitMode::Batch && self.features.min_wait {
            args = args.min_wait_usec(BATCH_WAIT.as_micros() as u32);
        }
        self.enters += 1;
        faults::inject("io_uring_enter")?;
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
    fn collect_completions(&mut self) {
        let queue = self.ring.completion();
        self.completions.extend(queue.filter_map(|entry| {
            let token = Token::unpack(entry.user_data());
            debug_assert!(token.is_some(), "a completion of no request of ours");
            Some(Completion {
                token: token?,
                result: entry.result(),
                more: io_uring::cqueue::more(entry.flags()),
            })
        }));
    }
}

impl Drop for Ring {
    /// Carries out the closes that are staged, and closes what was made and not taken: descriptors in the
    /// queues are nobody else's to close. Bounded, as the ring may be the very thing that is broken.
    fn drop(&mut self) {
        for _ in 0..100 {
            let staged = self.ring.submission().len();
            if staged == 0 {
                break;
            }
            // EBADR, which may be why we end, is said once and then over.
            let _ = self.enter_once(staged as u32, WaitMode::Poll, None);
        }
        self.collect_completions();
        for completion in self.completions.drain(..) {
            if completion.token.kind == Kind::Install && completion.result >= 0 {
                // SAFETY: the kernel made it for us, and nobody has been told.
                drop(unsafe { OwnedFd::from_raw_fd(completion.result) });
            }
        }
        let ring = self.ring.as_raw_fd();
        self.stop.hand_off_ring(|| sys::duplicate(ring).ok());
    }
}
