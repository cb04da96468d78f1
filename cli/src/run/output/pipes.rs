//! The pipes that jobs write to, by job and attempt: read by turns, kept from each other's long lines, and left open when
//! their job has ended and something that it started still writes.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::process::{Resource, getrlimit};

use crate::run::output::job_stream::{Route, Stream};
use crate::run::output::std_streams::Outlet;
use crate::run::token::{Token, Whose};

const READ_AT_ONCE: usize = 64 * 1024;
/// As much as a pipe may hold unless root says otherwise (`fs.pipe-max-size`).
const PIPE_MAX: usize = 1024 * 1024;
/// For so long others wait for the end of a long line that does not go on.
const LINE_PATIENCE: Duration = Duration::from_secs(10);
/// A line goes on if so much of it comes in that time.
const LINE_GOES_ON: usize = 64 * 1024;
/// For so long others wait in any case: a line may be endless.
const LINE_WAIT_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Pipes {
    /// Where the pipes are waited for.
    poll: Arc<OwnedFd>,
    route: Route,
    streams: HashMap<Whose, Stream>,
    /// Those whose job has ended, the oldest first; some may have been closed since.
    left: VecDeque<Whose>,
    left_max: usize,
    /// The streams in whose long lines standard output and error are.
    in_line: [Option<LongLine>; 2],
    /// Streams that wait for the end of a long line, and are not in `poll` meanwhile.
    paused: Vec<Whose>,
    buffer: Vec<u8>,
}

struct LongLine {
    whose: Whose,
    /// Since when somebody waits for its end.
    waited_for: Instant,
    /// The last look at how it goes on.
    looked: Instant,
    /// What has come of it since then.
    bytes: usize,
}

impl Pipes {
    pub(crate) fn new(poll: Arc<OwnedFd>, route: Route) -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self {
            poll,
            route,
            streams: HashMap::new(),
            left: VecDeque::new(),
            left_max: (limit / 8).clamp(2, 1024) as usize,
            in_line: [None, None],
            paused: Vec::new(),
            buffer: vec![0; READ_AT_ONCE],
        }
    }

    /// Takes over the pipes of a job that was started.
    pub(crate) fn add(&mut self, job: u64, attempt: u32, pipes: [Option<OwnedFd>; 2]) {
        for (whose, pipe) in Whose::both(job, attempt).into_iter().zip(pipes) {
            if let Some(pipe) = pipe {
                self.streams.insert(whose, Stream::new(pipe, attempt));
            }
        }
    }

    pub(crate) fn has(&self, whose: Whose) -> bool {
        self.streams.contains_key(&whose)
    }

    /// Whether a job has a pipe that was not closed by all who could write to it.
    pub(crate) fn are_open(&self, job: u64, attempt: u32) -> bool {
        Whose::both(job, attempt)
            .iter()
            .any(|&whose| self.has(whose))
    }

    /// Reads once from a pipe that is ready. `hung_up`: there is nothing to read, and there never will be.
    pub(crate) fn take(&mut self, whose: Whose, hung_up: bool, outlet: &mut Outlet) {
        let Some(stream) = self.streams.get_mut(&whose) else {
            return;
        };
        if is_stopped(&self.in_line, whose, outlet) {
            // It would be found ready again and again.
            let _ = epoll::delete(&self.poll, stream.as_fd());
            if self.paused.is_empty() {
                let now = Instant::now();
                for line in self.in_line.iter_mut().flatten() {
                    *line = LongLine::new(line.whose, now);
                }
            }
            return self.paused.push(whose);
        }
        match if hung_up {
            None
        } else {
            stream.read(&mut self.buffer)
        } {
            Some(bytes) => {
                stream.pass(whose, bytes, self.route, outlet);
                let (in_line, count) = (stream.is_in_line(self.route), bytes.len());
                self.went_on(whose, in_line, count, outlet);
            }
            None => self.close(whose, outlet),
        }
    }

    /// Keeps track of whose long line our output is in.
    fn went_on(&mut self, whose: Whose, in_line: bool, bytes: usize, outlet: &mut Outlet) {
        let place = &mut self.in_line[whose.stream];
        match place {
            Some(line) if in_line && line.whose == whose => line.bytes += bytes,
            None if in_line => {
                *place = Some(LongLine::new(whose, Instant::now()));
                outlet.hold_messages();
            }
            Some(line) if line.whose == whose => {
                *place = None;
                self.resume(outlet);
            }
            _ => {}
        }
    }

    /// Goes on with those who waited for the end of a long line.
    fn resume(&mut self, outlet: &mut Outlet) {
        for whose in self.paused.drain(..) {
            if let Some(stream) = self.streams.get(&whose) {
                let token = Token::Output(whose).data();
                // It was there before, so there is room for it.
                let _ = epoll::add(&self.poll, stream.as_fd(), token, epoll::EventFlags::IN);
            }
        }
        if self.in_line.iter().all(Option::is_none) {
            outlet.release_messages();
        }
    }

    fn close(&mut self, whose: Whose, outlet: &mut Outlet) {
        let Some(mut stream) = self.streams.remove(&whose) else {
            return;
        };
        // Closing it is not enough: a child that is being started has a copy until its exec, and as long as that is there,
        // so are events.
        let _ = epoll::delete(&self.poll, stream.as_fd());
        stream.end_line(whose, self.route, outlet);
        self.went_on(whose, false, 0, outlet);
    }

    /// Whether somebody waits for the end of a long line, so that no job's output is known to be all there.
    pub(crate) fn are_paused(&self) -> bool {
        !self.paused.is_empty()
    }

    /// How long until a long line that others wait for must have gone on.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let lines = self.in_line.iter().flatten();
        let lines = lines.filter(|_| self.are_paused());
        lines
            .map(|line| line.due().saturating_duration_since(Instant::now()))
            .min()
    }

    /// Not the line's fault: those who read from us took so long.
    pub(crate) fn was_held_up(&mut self, long: Duration) {
        for line in self.in_line.iter_mut().flatten() {
            line.waited_for += long;
            line.looked += long;
        }
    }

    /// Ends a long line that others wait for and that does not go on. Returns its job.
    pub(crate) fn break_line(&mut self, outlet: &mut Outlet) -> Option<u64> {
        if !self.are_paused() {
            return None;
        }
        let now = Instant::now();
        for line in self.in_line.iter_mut().flatten() {
            if !line.is_to_be_broken(now) {
                continue;
            }
            let whose = line.whose;
            if let Some(stream) = self.streams.get_mut(&whose) {
                stream.break_line(whose, outlet);
            }
            self.went_on(whose, false, 0, outlet);
            return Some(whose.job);
        }
        None
    }

    /// A job has ended. What is in its pipes is passed on; if something that it left running has them, they stay open. Whether there
    /// were too many of these, so that the oldest were closed.
    pub(crate) fn leave(&mut self, job: u64, attempt: u32, outlet: &mut Outlet) -> bool {
        for whose in Whose::both(job, attempt) {
            self.drain(whose, outlet);
            if self.has(whose) {
                self.left.push_back(whose);
            }
        }
        if self.left.len() <= self.left_max {
            return false;
        }
        let streams = &self.streams;
        self.left.retain(|whose| streams.contains_key(whose));
        let excess = self.left.len().saturating_sub(self.left_max);
        let oldest: Vec<_> = self.left.drain(..excess).collect();
        for &whose in &oldest {
            self.drain(whose, outlet);
            self.close(whose, outlet);
        }
        !oldest.is_empty()
    }

    /// Passes on what is in a pipe: among many, or behind a slow reader of ours, its turn may not have come. Not more than a full
    /// pipe, as its writer may be endless.
    fn drain(&mut self, whose: Whose, outlet: &mut Outlet) {
        let Some(stream) = self.streams.get_mut(&whose) else {
            return;
        };
        if stream.has_something() && !is_stopped(&self.in_line, whose, outlet) {
            let mut buffer = vec![0; PIPE_MAX];
            if let Some(bytes) = stream.read(&mut buffer) {
                stream.pass(whose, bytes, self.route, outlet);
                let (in_line, count) = (stream.is_in_line(self.route), bytes.len());
                self.went_on(whose, in_line, count, outlet);
            }
        }
    }

    /// Passes on what is in the pipes, and gives back those that somebody may still write to.
    pub(crate) fn finish(&mut self, outlet: &mut Outlet) -> Vec<OwnedFd> {
        // Long lines first: all others wait for their ends.
        let in_line = self.in_line.iter().flatten().map(|line| line.whose);
        let all: Vec<_> = in_line.chain(self.streams.keys().copied()).collect();
        let mut open = Vec::new();
        for whose in all {
            self.drain(whose, outlet);
            let Some(mut stream) = self.streams.remove(&whose) else {
                continue;
            };
            stream.end_line(whose, self.route, outlet);
            self.went_on(whose, false, 0, outlet);
            if has_writers(stream.as_fd()) {
                open.push(stream.into_pipe());
            }
        }
        open
    }
}

impl LongLine {
    /// Whether another stream's lines would come into the middle of this one.
    fn stops(&self, other: Whose, outlet: &Outlet) -> bool {
        self.whose != other && (self.whose.stream == other.stream || outlet.is_one())
    }

    fn new(whose: Whose, now: Instant) -> Self {
        Self {
            whose,
            waited_for: now,
            looked: now,
            bytes: 0,
        }
    }

    /// When it is to be looked at.
    fn due(&self) -> Instant {
        (self.looked + LINE_PATIENCE).min(self.waited_for + LINE_WAIT_MAX)
    }

    /// Whether others have waited for its end for too long.
    fn is_to_be_broken(&mut self, now: Instant) -> bool {
        if now < self.due() {
            return false;
        }
        let goes_on = self.bytes >= LINE_GOES_ON && now < self.waited_for + LINE_WAIT_MAX;
        if goes_on {
            self.looked = now;
            self.bytes = 0;
        }
        !goes_on
    }
}

fn is_stopped(in_line: &[Option<LongLine>; 2], whose: Whose, outlet: &Outlet) -> bool {
    in_line
        .iter()
        .flatten()
        .any(|line| line.stops(whose, outlet))
}

/// Whether somebody may still write to it, or has.
fn has_writers(pipe: BorrowedFd<'_>) -> bool {
    let mut end = [PollFd::from_borrowed_fd(pipe, PollFlags::IN)];
    let polled = poll(&mut end, Some(&Timespec::default()));
    let events = end[0].revents();
    polled.is_ok() && (events.contains(PollFlags::IN) || !events.contains(PollFlags::HUP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_wait_for_a_line_that_goes_on_but_not_for_ever() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut line = LongLine::new(Whose::new(1, 1, 0), begun);
        assert!(!line.is_to_be_broken(at(9)));
        for seconds in [10, 20, 30, 40, 50] {
            line.bytes += LINE_GOES_ON;
            assert!(!line.is_to_be_broken(at(seconds)), "{seconds}");
            assert!(!line.is_to_be_broken(at(seconds + 9)), "{seconds}");
        }
        line.bytes += LINE_GOES_ON;
        assert!(line.is_to_be_broken(at(60)));

        let mut line = LongLine::new(Whose::new(1, 1, 0), begun);
        line.bytes += LINE_GOES_ON - 1;
        assert!(line.is_to_be_broken(at(10)));
    }
}
