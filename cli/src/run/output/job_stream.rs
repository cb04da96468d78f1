//! One output stream of a job, read from its pipe and forwarded by whole lines.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::io::Errno;

use super::output_line::OutputLine;
use super::std_streams::StdStreams;
use crate::run::report::json::to_json_line;
use crate::run::stream_id::{STDOUT, StreamId};

/// A longer line is forwarded piece by piece, so that it is not kept in memory.
const LINE_MAX: usize = 1024 * 1024;

/// Where and how output is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To the same stream of this process, unchanged.
    Lines,
    /// To standard output, as a record for each line.
    Records,
    /// Not at all: jobs write to their destination themselves.
    Nowhere,
}

/// The result of one read from a pipe.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PipeRead<'b> {
    Data(&'b [u8]),
    /// There is no data now, and there is a writer.
    Nothing,
    End,
}

/// One stream of one job.
pub(crate) struct JobStream {
    pipe: OwnedFd,
    /// The attempt that writes to the stream.
    attempt: u32,
    /// The start of an incomplete line, or what follows the part of it that was forwarded.
    partial: Vec<u8>,
    /// A part of the line was forwarded already.
    split: bool,
    /// What each line begins with: the tag and a tab.
    tag: Option<Rc<[u8]>>,
}

impl JobStream {
    pub(crate) fn new(pipe: OwnedFd, attempt: u32, tag: Option<Rc<[u8]>>) -> Self {
        Self {
            pipe,
            attempt,
            partial: Vec::new(),
            split: false,
            tag,
        }
    }

    /// Whether there is data.
    pub(crate) fn is_readable(&self) -> bool {
        rustix::io::ioctl_fionread(&self.pipe).is_ok_and(|count| count > 0)
    }

    /// Reads once. The pipe is non-blocking, because an event does not prove that there is still
    /// data: a process of the job can open the pipe for reading (`/dev/stdout`), and take the data
    /// first.
    pub(crate) fn read<'b>(&self, buffer: &'b mut [u8]) -> PipeRead<'b> {
        loop {
            return match rustix::io::read(&self.pipe, &mut *buffer) {
                Ok(0) => PipeRead::End,
                Ok(count) => PipeRead::Data(&buffer[..count]),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => PipeRead::Nothing,
                Err(_) => PipeRead::End,
            };
        }
    }

    /// Whether standard output or error is in the middle of a line of this stream.
    pub(crate) fn is_mid_line(&self, route: Route) -> bool {
        self.split && route == Route::Lines
    }

    /// Forwards what was read, up to the last complete line.
    pub(crate) fn forward(
        &mut self,
        stream_id: StreamId,
        bytes: &[u8],
        route: Route,
        std_streams: &mut StdStreams,
    ) {
        let whole = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        let (lines, partial) = bytes.split_at(whole);
        if !lines.is_empty() {
            if self.partial.is_empty() {
                self.write_lines(stream_id, lines, route, std_streams);
            } else {
                let mut all = std::mem::take(&mut self.partial);
                all.extend_from_slice(lines);
                self.write_lines(stream_id, &all, route, std_streams);
                all.clear();
                self.partial = all;
            }
            self.split = false;
        }
        self.partial.extend_from_slice(partial);
        if self.partial.len() >= LINE_MAX || self.is_mid_line(route) {
            self.forward_partial(stream_id, route, std_streams);
        }
    }

    /// Forwards the incomplete part of a line that is too long to keep.
    fn forward_partial(&mut self, stream_id: StreamId, route: Route, std_streams: &mut StdStreams) {
        match route {
            Route::Records => {
                let (part, rest) = self.partial.split_at(whole_characters(&self.partial));
                std_streams.write_job(stream_id.job, STDOUT, |to| {
                    let line = OutputLine::partial(stream_id, self.attempt, part);
                    to.extend(to_json_line(&line.with_tag(self.tag_text())));
                });
                self.partial = rest.to_vec();
            }
            Route::Lines => {
                std_streams.write_job(stream_id.job, stream_id.stream, |to| {
                    if let (Some(tag), false) = (&self.tag, self.split) {
                        to.extend_from_slice(tag);
                    }
                    to.extend_from_slice(&self.partial);
                });
                // The buffer is freed, because few lines are so long.
                self.partial = Vec::new();
            }
            Route::Nowhere => self.partial = Vec::new(),
        }
        self.split = true;
    }

    /// Ends a line that was forwarded in part, because other streams have waited for its end for
    /// too long.
    pub(crate) fn break_line(&mut self, stream_id: StreamId, std_streams: &mut StdStreams) {
        std_streams.write_job(stream_id.job, stream_id.stream, |to| to.push(b'\n'));
        self.split = false;
    }

    /// Forwards the rest at the end of the stream. A line end is added if it is missing, so that
    /// the next job's output starts on a line of its own.
    pub(crate) fn finish_line(
        &mut self,
        stream_id: StreamId,
        route: Route,
        std_streams: &mut StdStreams,
    ) {
        if !self.partial.is_empty() || self.split {
            let mut rest = std::mem::take(&mut self.partial);
            rest.push(b'\n');
            self.write_lines(stream_id, &rest, route, std_streams);
            self.split = false;
        }
    }

    pub(crate) fn into_pipe(self) -> OwnedFd {
        self.pipe
    }

    fn write_lines(
        &self,
        stream_id: StreamId,
        lines: &[u8],
        route: Route,
        std_streams: &mut StdStreams,
    ) {
        match route {
            Route::Lines => {
                std_streams.write_job(stream_id.job, stream_id.stream, |to| match &self.tag {
                    None => to.extend_from_slice(lines),
                    Some(tag) => {
                        let lines = lines.split_inclusive(|&byte| byte == b'\n');
                        for (index, line) in lines.enumerate() {
                            // The beginning of the first line may have been forwarded.
                            if index > 0 || !self.split {
                                to.extend_from_slice(tag);
                            }
                            to.extend_from_slice(line);
                        }
                    }
                });
            }
            Route::Records => std_streams.write_job(stream_id.job, STDOUT, |to| {
                for line in lines.split_inclusive(|&byte| byte == b'\n') {
                    let line = line.strip_suffix(b"\n").unwrap_or(line);
                    let record = OutputLine::new(stream_id, self.attempt, line);
                    to.extend(to_json_line(&record.with_tag(self.tag_text())));
                }
            }),
            Route::Nowhere => {}
        }
    }

    /// The tag without the tab.
    fn tag_text(&self) -> Option<&[u8]> {
        self.tag.as_deref()?.split_last().map(|(_, tag)| tag)
    }
}

impl AsFd for JobStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// The length up to the last whole character, if the text is UTF-8 up to there.
pub(crate) fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_pipe_has_no_data_until_its_last_writer_is_gone() {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&reader, true).expect("a pipe");
        let stream = JobStream::new(reader, 1, None);
        let mut buffer = [0; 8];
        assert_eq!(stream.read(&mut buffer), PipeRead::Nothing);
        rustix::io::write(&writer, b"x").expect("room");
        drop(writer);
        assert_eq!(stream.read(&mut buffer), PipeRead::Data(b"x"));
        assert_eq!(stream.read(&mut buffer), PipeRead::End);
    }

    #[test]
    fn a_partial_line_ends_with_a_whole_character() {
        assert_eq!(whole_characters("aü".as_bytes()), 3);
        assert_eq!(whole_characters(&"aü".as_bytes()[..2]), 1);
        assert_eq!(whole_characters(&"a€".as_bytes()[..3]), 1);
        // Not UTF-8 in any case.
        assert_eq!(whole_characters(b"a\xffb\xc3"), 4);
        assert_eq!(whole_characters(b"abc"), 3);
    }
}
