//! The pipes that jobs write to, by job and attempt.
//!
//! They are read in turn. A long line of one stream pauses the others until its end. A pipe stays
//! open after its job has ended if a process that the job started still writes to it.

mod long_lines;

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use self::long_lines::is_blocked;
use super::job_stream::{JobStream, PipeRead, Route};
use super::long_line::LongLine;
use super::output_tails::OutputTails;
use super::std_streams::StdStreams;
use crate::failure::Failure;
use crate::run::output_tail::AttemptTail;
use crate::run::stream_id::StreamId;

const READ_AT_ONCE: usize = 64 * 1024;
/// The maximal capacity of a pipe of an unprivileged process (`fs.pipe-max-size`).
const PIPE_MAX: usize = 1024 * 1024;

pub(crate) struct Pipes {
    /// The epoll that reports readable pipes.
    poll: Arc<OwnedFd>,
    route: Route,
    streams: HashMap<StreamId, JobStream>,
    /// Streams of jobs that have ended, the oldest first. Some may have been closed since.
    orphaned: VecDeque<StreamId>,
    orphaned_max: usize,
    /// The long lines that standard output and error are in the middle of.
    long_lines: [Option<LongLine>; 2],
    /// Streams that wait for the end of a long line. They are removed from `poll` meanwhile.
    paused: Vec<StreamId>,
    /// A stream was not added to `poll` again.
    watch_failure: Option<Failure>,
    buffer: Vec<u8>,
    /// The ends of what running jobs have written, if something shows them.
    output_tails: Option<OutputTails>,
}

impl Pipes {
    pub(crate) fn new(poll: Arc<OwnedFd>, route: Route, output_tails: Option<OutputTails>) -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self {
            poll,
            route,
            streams: HashMap::new(),
            orphaned: VecDeque::new(),
            orphaned_max: (limit / 8).clamp(2, 1024) as usize,
            long_lines: [None, None],
            paused: Vec::new(),
            watch_failure: None,
            buffer: vec![0; READ_AT_ONCE],
            output_tails,
        }
    }

    /// Adds the pipes of a job that was started.
    pub(crate) fn add(
        &mut self,
        job: u64,
        attempt: u32,
        pipes: [Option<OwnedFd>; 2],
        tag: Option<Rc<[u8]>>,
    ) {
        if let Some(tails) = &mut self.output_tails
            && pipes.iter().any(Option::is_some)
        {
            tails.begin(job, attempt);
        }
        for (stream_id, pipe) in StreamId::both(job, attempt).into_iter().zip(pipes) {
            if let Some(pipe) = pipe {
                self.streams
                    .insert(stream_id, JobStream::new(pipe, attempt, tag.clone()));
            }
        }
    }

    pub(crate) fn has(&self, stream_id: StreamId) -> bool {
        self.streams.contains_key(&stream_id)
    }

    /// Whether a job has a pipe that still has a writer.
    pub(crate) fn has_open(&self, job: u64, attempt: u32) -> bool {
        StreamId::both(job, attempt)
            .iter()
            .any(|&stream_id| self.has(stream_id))
    }

    /// Reads once from a pipe that epoll reports. `hung_up`: there is no data, and no writer is
    /// left.
    pub(crate) fn read_ready(
        &mut self,
        stream_id: StreamId,
        hung_up: bool,
        std_streams: &mut StdStreams,
    ) {
        let Some(stream) = self.streams.get_mut(&stream_id) else {
            return;
        };
        if is_blocked(&self.long_lines, stream_id, std_streams)
            && std_streams.is_live(stream_id.job)
        {
            // Level-triggered epoll would report it again and again.
            let _ = epoll::delete(&self.poll, stream.as_fd());
            if self.paused.is_empty() {
                let now = Instant::now();
                for line in self.long_lines.iter_mut().flatten() {
                    *line = LongLine::new(line.stream_id, now);
                }
            }
            return self.paused.push(stream_id);
        }
        match if hung_up {
            PipeRead::End
        } else {
            stream.read(&mut self.buffer)
        } {
            PipeRead::Data(bytes) => {
                if let Some(tails) = &mut self.output_tails {
                    tails.push(stream_id, bytes);
                }
                stream.forward(stream_id, bytes, self.route, std_streams);
                let count = bytes.len();
                self.track_stream(stream_id, count, std_streams);
            }
            PipeRead::Nothing => {}
            PipeRead::End => self.close(stream_id, std_streams),
        }
    }

    /// Why a pipe is not read any more, once. Its job would wait for ever when the pipe is full.
    pub(crate) fn take_watch_failure(&mut self) -> Option<Failure> {
        self.watch_failure.take()
    }

    fn close(&mut self, stream_id: StreamId, std_streams: &mut StdStreams) {
        let Some(mut stream) = self.streams.remove(&stream_id) else {
            return;
        };
        // Closing the pipe is not enough: a child that is being started has a copy until its exec,
        // and epoll reports events as long as there is a copy.
        let _ = epoll::delete(&self.poll, stream.as_fd());
        stream.finish_line(stream_id, self.route, std_streams);
        self.track_long_line(stream_id, false, 0, std_streams);
    }

    /// Forwards what the pipes of an ended job contain. Pipes that a background process still has
    /// open stay open. Returns whether there were too many of those, so that the oldest were
    /// closed.
    pub(crate) fn release_job(
        &mut self,
        job: u64,
        attempt: u32,
        std_streams: &mut StdStreams,
    ) -> bool {
        for stream_id in StreamId::both(job, attempt) {
            self.drain(stream_id, std_streams);
            self.close_if_ended(stream_id, std_streams);
            if self.has(stream_id) {
                self.orphaned.push_back(stream_id);
            }
        }
        if std_streams.keeps_order() {
            self.end_lines(job, attempt, std_streams);
        }
        if self.orphaned.len() <= self.orphaned_max {
            return false;
        }
        let streams = &self.streams;
        self.orphaned
            .retain(|stream_id| streams.contains_key(stream_id));
        let excess = self.orphaned.len().saturating_sub(self.orphaned_max);
        let oldest: Vec<_> = self.orphaned.drain(..excess).collect();
        for &stream_id in &oldest {
            self.drain(stream_id, std_streams);
            self.close(stream_id, std_streams);
        }
        !oldest.is_empty()
    }

    /// The last line that a running job wrote, if that is wanted.
    pub(crate) fn last_line(&self, job: u64, attempt: u32) -> Option<String> {
        self.output_tails.as_ref()?.last_line(job, attempt)
    }

    /// Takes the end of what an ended job has written.
    pub(crate) fn take_tail(&mut self, job: u64, attempt: u32) -> Option<AttemptTail> {
        self.output_tails.as_mut()?.take(job, attempt)
    }

    /// Forwards what a pipe contains. With many pipes, or a slow reader of this process, its turn
    /// may not have come. It reads at most the content of a full pipe, because the writer may be
    /// endless.
    fn drain(&mut self, stream_id: StreamId, std_streams: &mut StdStreams) {
        let waits = self.waits(stream_id, std_streams);
        let Some(stream) = self.streams.get_mut(&stream_id) else {
            return;
        };
        if stream.is_readable() && !waits {
            let mut buffer = vec![0; PIPE_MAX];
            if let PipeRead::Data(bytes) = stream.read(&mut buffer) {
                if let Some(tails) = &mut self.output_tails {
                    tails.push(stream_id, bytes);
                }
                stream.forward(stream_id, bytes, self.route, std_streams);
                let count = bytes.len();
                self.track_stream(stream_id, count, std_streams);
            }
        }
    }

    /// Closes a drained pipe without a writer. The event of its end may come after that of the
    /// job's, and a last line without a line end would come after the record of the job, or after
    /// output of the next job.
    fn close_if_ended(&mut self, stream_id: StreamId, std_streams: &mut StdStreams) {
        let Some(stream) = self.streams.get(&stream_id) else {
            return;
        };
        if !self.waits(stream_id, std_streams) && !has_writers(stream.as_fd()) {
            self.close(stream_id, std_streams);
        }
    }

    /// Whether a stream waits for the end of a long line of another one.
    fn waits(&self, stream_id: StreamId, std_streams: &mut StdStreams) -> bool {
        is_blocked(&self.long_lines, stream_id, std_streams) && std_streams.is_live(stream_id.job)
    }

    /// Forwards what the pipes contain, and returns those that still have a writer.
    pub(crate) fn finish(&mut self, std_streams: &mut StdStreams) -> Vec<OwnedFd> {
        // Long lines first: all other streams wait for their ends.
        let in_line = self.long_lines.iter().flatten().map(|line| line.stream_id);
        let all: Vec<_> = in_line.chain(self.streams.keys().copied()).collect();
        let mut open = Vec::new();
        for stream_id in all {
            self.drain(stream_id, std_streams);
            let Some(mut stream) = self.streams.remove(&stream_id) else {
                continue;
            };
            stream.finish_line(stream_id, self.route, std_streams);
            self.track_long_line(stream_id, false, 0, std_streams);
            if has_writers(stream.as_fd()) {
                open.push(stream.into_pipe());
            }
        }
        open
    }
}

/// Whether the pipe has data or a writer.
fn has_writers(pipe: BorrowedFd<'_>) -> bool {
    let mut end = [PollFd::from_borrowed_fd(pipe, PollFlags::IN)];
    let polled = poll(&mut end, Some(&Timespec::default()));
    let events = end[0].revents();
    polled.is_ok() && (events.contains(PollFlags::IN) || !events.contains(PollFlags::HUP))
}

/// The failure to add a pipe to the epoll.
pub(crate) fn cannot_watch(error: Errno) -> Failure {
    Failure::resource(format!("cannot watch another pipe: {error}"))
        .remedy("raise the sysctl fs.epoll.max_user_watches, or use a smaller -j")
}

#[cfg(test)]
mod tests;
