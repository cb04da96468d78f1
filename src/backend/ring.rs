//! The ring: stages requests, enters the kernel, and collects completions.

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

/// How many completions a batch wait waits for: few enough that the first one is not delayed much,
/// and enough to share the wake-up.
const BATCH: usize = 64;
/// How long a batch wait delays the first completion at most.
const BATCH_WAIT: Duration = Duration::from_micros(500);
/// The result of a request.
pub(super) struct Completion {
    pub(super) token: Token,
    pub(super) result: i32,
    /// The request stays active, and more completions follow.
    pub(super) more: bool,
}

pub(super) struct Ring {
    ring: IoUring,
    features: Features,
    table: FileTable,
    /// Copied out of the ring before any of them is processed.
    completions: VecDeque<Completion>,
    enters: u64,
    /// Once this is set, no failed call is repeated.
    stop: Arc<Stop>,
}

impl Ring {
    /// Opens a ring. Only the calling thread may use it.
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

    /// Registers a file in a free slot of the file table, if there is one.
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
        // The ring closes it from here on.
        let _ = fd.into_raw_fd();
        Ok(())
    }

    /// Removes the oldest collected completion.
    pub(super) fn next_completion(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    pub(super) fn completions(&self) -> impl Iterator<Item = &Completion> {
        self.completions.iter()
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

    /// Submits what is staged.
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

    /// Stages a request. The kernel carries requests out in order.
    pub(super) fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: no request refers to memory of this program. Descriptors and slots in a
            // request stay the same until the kernel has carried it out, in order.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            self.submit()?;
            if self.ring.submission().is_full() && self.is_stopping() {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
    }

    /// Submits what is staged, waits, and collects completions.
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
                    // The timeout expired.
                    Some(libc::ETIME) => {}
                    Some(libc::EINTR) => {
                        if mode != WaitMode::Poll {
                            return Ok(());
                        }
                    }
                    // EBUSY: completions must be collected first. EAGAIN: no memory at the moment.
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
                // The wait is over although the kernel did not consume all requests; the next enter
                // submits the others.
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
        // Without the kernel's minimum wait, a batch is a short timeout.
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
        // SAFETY: the arguments are those of io_uring_enter(2): as many entries as are staged, and
        // with EXT_ARG an io_uring_getevents_arg, which SubmitArgs is.
        unsafe {
            self.ring
                .submitter()
                .enter(staged, want, flags.bits(), Some(&args))?;
        }
        Ok(())
    }

    /// Copies the completions out of the ring.
    fn collect_completions(&mut self) {
        let queue = self.ring.completion();
        self.completions.extend(queue.filter_map(|entry| {
            let token = Token::unpack(entry.user_data());
            debug_assert!(token.is_some(), "an unknown completion");
            Some(Completion {
                token: token?,
                result: entry.result(),
                more: io_uring::cqueue::more(entry.flags()),
            })
        }));
    }
}

impl Drop for Ring {
    /// Submits the staged closes, and closes installed descriptors that nothing has processed:
    /// nothing else would close a descriptor in either queue. The number of tries is bounded,
    /// because the ring itself may be what is broken.
    fn drop(&mut self) {
        for _ in 0..100 {
            let staged = self.ring.submission().len();
            if staged == 0 {
                break;
            }
            // The kernel reports EBADR, which may be the reason for this drop, only once.
            let _ = self.enter_once(staged as u32, WaitMode::Poll, None);
        }
        self.collect_completions();
        for completion in self.completions.drain(..) {
            if completion.token.kind == Kind::Install && completion.result >= 0 {
                // SAFETY: the kernel installed this descriptor for the ring, and nothing else knows
                // it.
                drop(unsafe { OwnedFd::from_raw_fd(completion.result) });
            }
        }
        let ring = self.ring.as_raw_fd();
        self.stop.hand_off_ring(|| sys::duplicate(ring).ok());
    }
}
