//! The long lines that standard output and error are in the middle of, and the pipes that wait for
//! their ends.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::super::long_line::LongLine;
use super::super::std_streams::StdStreams;
use super::{Pipes, cannot_watch};
use crate::run::stream_id::StreamId;
use crate::run::token::Token;

impl Pipes {
    /// Tracks the long line that a stream may be in, after it was forwarded.
    pub(super) fn track_stream(
        &mut self,
        stream_id: StreamId,
        bytes: usize,
        std_streams: &mut StdStreams,
    ) {
        let job = stream_id.job;
        let Some(stream) = self.streams.get_mut(&stream_id) else {
            return;
        };
        // What waits for its turn is in no line of standard output.
        let mut in_line = stream.is_mid_line(self.route) && std_streams.is_live(job);
        if in_line && std_streams.is_past(job) {
            // The output of the next jobs does not wait for a background process.
            stream.break_line(stream_id, std_streams);
            in_line = false;
        }
        self.track_long_line(stream_id, in_line, bytes, std_streams);
    }

    /// Continues after all output of a job that waited was forwarded (`--keep-order`).
    pub(crate) fn continue_live(&mut self, job: u64, attempt: u32, std_streams: &mut StdStreams) {
        for stream_id in StreamId::both(job, attempt) {
            self.track_stream(stream_id, 0, std_streams);
        }
    }

    /// Ends the lines that a job has begun, because the output of the next job follows.
    pub(super) fn end_lines(&mut self, job: u64, attempt: u32, std_streams: &mut StdStreams) {
        for stream_id in StreamId::both(job, attempt) {
            if let Some(stream) = self.streams.get_mut(&stream_id)
                && stream.is_mid_line(self.route)
            {
                stream.break_line(stream_id, std_streams);
                self.track_long_line(stream_id, false, 0, std_streams);
            }
        }
    }

    /// Tracks the long line that standard output or error is in the middle of.
    pub(super) fn track_long_line(
        &mut self,
        stream_id: StreamId,
        in_line: bool,
        bytes: usize,
        std_streams: &mut StdStreams,
    ) {
        let long_line = &mut self.long_lines[stream_id.stream];
        match long_line {
            Some(line) if in_line && line.stream_id == stream_id => line.bytes += bytes,
            None if in_line => {
                *long_line = Some(LongLine::new(stream_id, Instant::now()));
                std_streams.hold_messages(stream_id.stream);
            }
            Some(line) if line.stream_id == stream_id => {
                *long_line = None;
                std_streams.end_line(stream_id.stream);
                self.resume_paused(std_streams);
            }
            _ => {}
        }
    }

    /// Resumes the streams that waited for the end of a long line.
    fn resume_paused(&mut self, std_streams: &mut StdStreams) {
        for stream_id in self.paused.drain(..) {
            if let Some(stream) = self.streams.get(&stream_id) {
                let token = Token::Output(stream_id).data();
                if let Err(error) =
                    epoll::add(&self.poll, stream.as_fd(), token, epoll::EventFlags::IN)
                {
                    self.watch_failure = Some(cannot_watch(error));
                }
            }
        }
        if self.long_lines.iter().all(Option::is_none) {
            std_streams.release_messages();
        }
    }

    /// Whether a stream waits for the end of a long line. The output of a job may then be
    /// incomplete.
    pub(crate) fn has_paused(&self) -> bool {
        !self.paused.is_empty()
    }

    /// The time until the next check of a long line that other streams wait for.
    pub(crate) fn wait_timeout(&self) -> Option<Duration> {
        let lines = self.long_lines.iter().flatten();
        let lines = lines.filter(|_| self.has_paused());
        lines
            .map(|line| line.next_check().saturating_duration_since(Instant::now()))
            .min()
    }

    /// Adds the time that this process was blocked by its own readers: the writer of the line did
    /// not cause that delay.
    pub(crate) fn extend_deadlines(&mut self, long: Duration) {
        for line in self.long_lines.iter_mut().flatten() {
            line.waiting_since += long;
            line.checked_at += long;
        }
    }

    /// Ends a long line that other streams wait for and that makes no progress. Returns its job.
    pub(crate) fn break_line(&mut self, std_streams: &mut StdStreams) -> Option<u64> {
        if !self.has_paused() {
            return None;
        }
        let now = Instant::now();
        for line in self.long_lines.iter_mut().flatten() {
            if !line.should_break(now) {
                continue;
            }
            let stream_id = line.stream_id;
            if let Some(stream) = self.streams.get_mut(&stream_id) {
                stream.break_line(stream_id, std_streams);
            }
            self.track_long_line(stream_id, false, 0, std_streams);
            return Some(stream_id.job);
        }
        None
    }
}

/// Whether a stream waits for the end of a long line.
pub(super) fn is_blocked(
    long_lines: &[Option<LongLine>; 2],
    stream_id: StreamId,
    std_streams: &StdStreams,
) -> bool {
    long_lines
        .iter()
        .flatten()
        .any(|line| line.blocks(stream_id, std_streams))
}
