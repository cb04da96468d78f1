//! The standard output and error of this process, buffered.
//!
//! The buffers are written when the supervisor has no other work. A write waits on the signal
//! descriptor too, so a reader that does not read cannot delay the handling of a signal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::termios::isatty;

use super::held_output::{HeldOutput, IN_MEMORY_MAX};
use super::keep_order::KeepOrder;
use super::log_records::{LogRecords, Position};
use crate::diagnostics::styled;
use crate::run::signals::Signals;
use crate::run::stream_id::STDOUT;

/// The most bytes that a writable pipe accepts without blocking (`PIPE_BUF`).
const WRITE_MAX: usize = 4096;
/// Buffers above this size are written at once.
const BUFFERED_MAX: usize = 256 * 1024;

/// How long the last message waits for a reader after a request to end.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a write is incomplete.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// No process reads it any more.
    Closed,
    /// The reader does not read, and a signal arrived or the time is over. The rest is kept.
    Blocked,
    /// Another error, such as a full disk.
    Failed(io::Error),
}

pub(crate) struct StdStreams {
    out: Vec<u8>,
    err: Vec<u8>,
    /// Both are the same file or terminal (`2>&1`), so one buffer keeps their order.
    shared: bool,
    /// Messages of exitring that wait for the end of a job's line. Set while a stream is in one.
    held_messages: Option<Vec<u8>>,
    /// Standard error is in the middle of a job's line.
    in_stderr_line: bool,
    /// Standard output has failed, and is no longer written to.
    stdout_failed: bool,
    /// How much of both has left the buffers.
    written: Position,
    pub(super) log_records: LogRecords,
    /// A record for the job log of which a part is missing.
    pub(super) partial_record: Vec<u8>,
    /// The output of jobs is in the order of the list.
    pub(super) order: Option<KeepOrder>,
    /// What waits for the end of `--watch`.
    pub(super) held: Option<HeldOutput>,
    /// The same, while it is written at the end.
    pub(super) releasing: Option<HeldOutput>,
}

impl StdStreams {
    pub(crate) fn new(order: Option<KeepOrder>) -> Self {
        let [out, err] = [rustix::stdio::stdout(), rustix::stdio::stderr()].map(fstat);
        let shared = matches!((out, err), (Ok(out), Ok(err)) if (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino));
        Self {
            out: Vec::new(),
            err: Vec::new(),
            shared,
            held_messages: None,
            in_stderr_line: false,
            stdout_failed: false,
            written: [0; 2],
            log_records: LogRecords::default(),
            partial_record: Vec::new(),
            order,
            held: None,
            releasing: None,
        }
    }

    /// Whether standard output and error are the same file or terminal.
    pub(crate) fn share_file(&self) -> bool {
        self.shared
    }

    /// The buffer for a stream of a job.
    pub(super) fn buffer_for(&mut self, stream: usize) -> &mut Vec<u8> {
        match stream {
            STDOUT => match &mut self.held {
                Some(held) if held.holds_stdout => &mut held.buffer,
                _ => &mut self.out,
            },
            _ => self.stderr(),
        }
    }

    fn stderr(&mut self) -> &mut Vec<u8> {
        if let Some(held) = &mut self.held {
            return &mut held.buffer;
        }
        match self.shared && !self.stdout_failed {
            true => &mut self.out,
            false => &mut self.err,
        }
    }

    /// Writes a message to standard error.
    pub(crate) fn report(&mut self, text: &str) {
        let text = styled(text);
        match &mut self.held_messages {
            Some(held_messages) if self.shared || self.in_stderr_line => {
                held_messages.extend(text.bytes());
            }
            _ => self.stderr().extend(text.bytes()),
        }
    }

    /// Holds messages back: this stream is in the middle of a job's line.
    pub(crate) fn hold_messages(&mut self, stream: usize) {
        self.held_messages.get_or_insert_default();
        self.in_stderr_line |= stream != STDOUT;
    }

    /// The line of this stream has ended.
    pub(crate) fn end_line(&mut self, stream: usize) {
        if stream == STDOUT {
            return;
        }
        self.in_stderr_line = false;
        if !self.shared
            && let Some(held_messages) = &mut self.held_messages
        {
            let held_messages = std::mem::take(held_messages);
            self.stderr().extend(held_messages);
        }
    }

    /// The lines of both streams have ended.
    pub(crate) fn release_messages(&mut self) {
        let held_messages = self.held_messages.take().unwrap_or_default();
        self.stderr().extend(held_messages);
    }

    /// Whether the output is in the middle of a job's line.
    pub(crate) fn holds_messages(&self) -> bool {
        self.held_messages.is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        let few = |held: &HeldOutput| held.buffer.len() <= IN_MEMORY_MAX;
        self.out.is_empty() && self.err.is_empty() && self.held.as_ref().is_none_or(few)
    }

    /// Whether the buffered output may go to the terminal of the progress bar.
    pub(crate) fn may_be_on_terminal(&self) -> bool {
        !self.err.is_empty() || isatty(rustix::stdio::stdout())
    }

    pub(crate) fn is_large(&self) -> bool {
        self.out.len() + self.err.len() + self.log_records.length > BUFFERED_MAX
    }

    /// The end of what is in the buffers.
    fn position(&self) -> Position {
        let [out, err] = self.written;
        [out + self.out.len() as u64, err + self.err.len() as u64]
    }

    /// Appends output of a job to a buffer.
    pub(super) fn append_output(
        &mut self,
        job: u64,
        stream: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        write(self.buffer_for(stream));
        self.log_records.has_written(job, self.position());
    }

    /// Records for the job log whose output has been written.
    pub(crate) fn take_log_records(&mut self) -> Vec<u8> {
        self.log_records.take(self.written)
    }

    /// How many records the job log does not get, because the output of their jobs was lost.
    pub(crate) fn dropped_log_records(&self) -> u64 {
        self.log_records.dropped()
    }

    /// Writes the buffers. It waits until the deadline for readers that do not read; `None` waits
    /// forever. `signal` is readable when a signal arrives. An error is returned once; after it,
    /// standard output is discarded.
    pub(crate) fn flush(
        &mut self,
        signal: BorrowedFd<'_>,
        until: Option<Instant>,
    ) -> Result<(), WriteError> {
        if let Some(held) = &mut self.held {
            held.limit();
        }
        if self.stdout_failed {
            self.lose_stdout();
        }
        let end = self.position();
        let written = write_all(rustix::stdio::stdout(), &mut self.out, signal, until);
        self.written[0] = end[0] - self.out.len() as u64;
        if let Err(WriteError::Closed | WriteError::Failed(_)) = written {
            self.stdout_failed = true;
            self.lose_stdout();
        }
        let stderr_written = write_all(rustix::stdio::stderr(), &mut self.err, signal, until);
        if let Err(WriteError::Closed | WriteError::Failed(_)) = stderr_written {
            // There is nowhere left to report the error.
            self.err.clear();
        }
        self.written[1] = end[1] - self.err.len() as u64;
        match stderr_written {
            Err(WriteError::Blocked) => written.and(Err(WriteError::Blocked)),
            _ => written,
        }
    }

    fn lose_stdout(&mut self) {
        let [out, _] = self.written;
        self.log_records.lose_after([out, u64::MAX]);
        self.written[0] += self.out.len() as u64;
        self.out.clear();
    }

    /// Writes the last message. After a request to end, the reader has a limited time to take it.
    pub(crate) fn report_last(&mut self, text: &str, signals: &mut Signals, mut asked: bool) {
        self.report(text);
        loop {
            let until = asked.then(|| Instant::now() + LAST_TIMEOUT);
            match self.flush(signals.as_fd(), until) {
                Err(WriteError::Blocked) if !asked => asked = signals.shutdown_requested(),
                _ => return,
            }
        }
    }

    /// Discards what could not be written.
    pub(crate) fn discard(&mut self) {
        self.log_records.lose_after(self.written);
        self.written = self.position();
        self.out.clear();
        self.err.clear();
    }
}

/// Writes `bytes`, and removes from it what was written.
fn write_all(
    to: BorrowedFd<'_>,
    bytes: &mut Vec<u8>,
    signal: BorrowedFd<'_>,
    until: Option<Instant>,
) -> Result<(), WriteError> {
    let mut left = bytes.as_slice();
    let written = write_slice(to, &mut left, signal, until);
    let count = bytes.len() - left.len();
    bytes.drain(..count);
    written
}

fn write_slice(
    to: BorrowedFd<'_>,
    bytes: &mut &[u8],
    signal: BorrowedFd<'_>,
    until: Option<Instant>,
) -> Result<(), WriteError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let is_file = fstat(to).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
    while !bytes.is_empty() {
        let mut now = *bytes;
        if !is_file {
            wait_until_writable(to, signal, until)?;
            now = &bytes[..bytes.len().min(WRITE_MAX)];
        }
        match rustix::io::write(to, now) {
            Ok(count) => *bytes = &bytes[count..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(Errno::PIPE) => return Err(WriteError::Closed),
            Err(error) => return Err(WriteError::Failed(error.into())),
        }
    }
    Ok(())
}

fn wait_until_writable(
    to: BorrowedFd<'_>,
    signal: BorrowedFd<'_>,
    until: Option<Instant>,
) -> Result<(), WriteError> {
    loop {
        let mut either = [
            PollFd::from_borrowed_fd(to.as_fd(), PollFlags::OUT),
            PollFd::from_borrowed_fd(signal, PollFlags::IN),
        ];
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // A time that the kernel cannot represent is as good as forever.
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut either, left.as_ref()) {
            Err(Errno::INTR) => continue,
            Ok(0) => return Err(WriteError::Blocked),
            Err(error) => return Err(WriteError::Failed(error.into())),
            Ok(_) => {}
        }
        let [to, signal] = either.map(|end| !end.revents().is_empty());
        match (to, signal) {
            // The next write reports an error.
            (true, _) => return Ok(()),
            (false, true) => return Err(WriteError::Blocked),
            (false, false) => {}
        }
    }
}
