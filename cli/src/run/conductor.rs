//! The loop that sees jobs run and end: one thread that waits for everything, and to which all that is known about
//! running jobs belongs.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exitring::{Child, Exit, TryRecvError};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::ending::{Ending, Stop};
use super::inbox::{News, Started, When};
use super::job::Job;
use super::joblog::JobLog;
use super::outlet::{Gone, Outlet};
use super::output::{Route, Stream, Whose};
use super::progress::{Numbers, Progress};
use super::reader::Counts;
use super::record::{Record, to_line};
use super::signals::Signals;
use super::starter::Starter;
use super::summary::Summary;
use super::token::Token;
use crate::failure::Failure;
use crate::say::styled;

/// So long after a job's end, what it left running may go on writing to its pipes.
const LINGER: Duration = Duration::from_millis(100);
/// When we are asked to end, those who read what we write are waited for so long at a time, between all else that is to be done.
const READER_PATIENCE: Duration = Duration::from_millis(100);
/// How soon what they have not taken is offered again.
const OFFER_AGAIN: Duration = Duration::from_millis(20);
const EVENTS_AT_ONCE: usize = 256;
const READ_AT_ONCE: usize = 64 * 1024;
/// As much as a pipe may hold unless root says otherwise (`fs.pipe-max-size`).
const PIPE_MAX: usize = 1024 * 1024;

/// What the conductor is to do beyond starting jobs.
pub(crate) struct Conductor {
    pub(crate) starter: Arc<Starter>,
    pub(crate) signals: Signals,
    pub(crate) counts: Arc<Counts>,
    pub(crate) route: Route,
    pub(crate) joblog: Option<JobLog>,
    /// Whether each finished job is told on standard output.
    pub(crate) records: bool,
    pub(crate) retries: u32,
    pub(crate) fail_fast: Option<Stop>,
    pub(crate) outlet: Outlet,
    pub(crate) progress: Progress,
    pub(crate) summary: Summary,
    pub(crate) ending: Ending,
    pub(crate) running: HashMap<u64, Running>,
    /// Jobs that ended and left their pipes open, in the order of their ends.
    pub(crate) lingering: VecDeque<Lingering>,
    pub(crate) crowded_said: bool,
}

/// A job that has ended, and its pipes have not.
pub(crate) struct Lingering {
    until: Instant,
    job: u64,
    attempt: u32,
}

/// A job that runs, or whose output has not ended.
pub(crate) struct Running {
    job: Job,
    when: When,
    child: Child,
    streams: [Option<Stream>; 2],
    exit: Option<Exit>,
}

impl Running {
    fn is_over(&self) -> bool {
        self.exit.is_some() && self.streams.iter().all(Option::is_none)
    }
}

impl Conductor {
    /// Goes on until the last job has ended.
    pub(crate) fn conduct(&mut self) {
        let mut events = Vec::with_capacity(EVENTS_AT_ONCE);
        let mut buffer = vec![0; READ_AT_ONCE];
        let mut news = Vec::new();
        while !self.starter.gate.is_over() && !self.ending.is_abrupt() {
            self.wait(&mut events);
            for event in events.drain(..) {
                let flags = event.flags;
                let hung_up = !flags.contains(epoll::EventFlags::IN);
                match Token::of(event.data) {
                    Token::Bell => self.starter.inbox.hush(),
                    Token::Signal => self.take_signals(),
                    Token::Exits => self.take_exits(&mut news),
                    Token::Output { job, stream } => {
                        self.take_output(Whose { job, stream }, hung_up, &mut buffer, &mut news);
                    }
                }
                if self.outlet.is_much() {
                    self.flush();
                }
            }
            self.take_news(&mut news);
            self.let_go();
            self.flush();
            self.show_progress();
        }
        // Of what made it over.
        self.take_news(&mut news);
        self.flush_rest();
        self.progress.end();
    }

    fn wait(&mut self, events: &mut Vec<epoll::Event>) {
        let linger = self
            .lingering
            .front()
            .map(|lingering| lingering.until.saturating_duration_since(Instant::now()));
        let offer = (!self.outlet.is_empty()).then_some(OFFER_AGAIN);
        let patience = self.progress.patience().into_iter();
        let patience = patience.chain(linger).chain(offer).min();
        // It fits: none is longer than a moment.
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
        match epoll::wait(
            &self.starter.poll,
            rustix::buffer::spare_capacity(events),
            patience.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => self.lost(Failure::resource(format!("epoll_wait failed: {error}"))),
        }
    }

    // ---- what happens

    fn take_news(&mut self, news: &mut Vec<News>) {
        self.starter.inbox.take(news);
        for news in news.drain(..) {
            match news {
                News::Started(started) => self.begin(*started),
                News::NotStarted { job, when, why } => {
                    self.finish(&job, &Record::of_nothing_started(&job, when, why));
                    self.starter.gate.leave(1);
                }
                News::PutDown => self.starter.gate.leave(1),
                News::Crowded { room, why } => self.say_crowded(room, &why),
                News::Stuck(failure) => self.stop(Stop::Soon, Some(failure)),
                News::Lost(failure) => self.lost(failure),
                News::Read => {}
            }
        }
    }

    fn begin(&mut self, started: Started) {
        let Started {
            job,
            when,
            child,
            pipes,
        } = started;
        if let Route::Files(logs) = &self.route {
            logs.begin(job.number, job.attempt);
        }
        // It was on its way when the others were told.
        self.ending.tell(&child);
        let streams = pipes.map(|pipe| pipe.map(|pipe| Stream::new(pipe, job.attempt)));
        let running = Running {
            job,
            when,
            child,
            streams,
            exit: None,
        };
        self.running.insert(running.job.number, running);
    }

    fn take_exits(&mut self, news: &mut Vec<News>) {
        loop {
            let tagged = match self.starter.exits.try_recv() {
                Ok(Some(tagged)) => tagged,
                Ok(None) | Err(TryRecvError::Empty) => return,
                Err(error) => return self.lost(Failure::resource(error.to_string())),
            };
            // It was put into the inbox before its end could come here.
            if !self.running.contains_key(&tagged.tag) {
                self.take_news(news);
            }
            let Some(running) = self.running.get_mut(&tagged.tag) else {
                continue;
            };
            running.exit = Some(tagged.exit);
            if running.is_over() {
                self.end(tagged.tag);
            } else {
                self.lingering.push_back(Lingering {
                    until: Instant::now() + LINGER,
                    job: tagged.tag,
                    attempt: running.job.attempt,
                });
            }
        }
    }

    /// `hung_up`: there is nothing to read, and there never will be.
    fn take_output(
        &mut self,
        whose: Whose,
        hung_up: bool,
        buffer: &mut [u8],
        news: &mut Vec<News>,
    ) {
        if !self.running.contains_key(&whose.job) {
            self.take_news(news);
        }
        let Some(running) = self.running.get_mut(&whose.job) else {
            return;
        };
        let Some(stream) = &mut running.streams[whose.stream] else {
            return;
        };
        let read = if hung_up { None } else { stream.read(buffer) };
        let passed = match read {
            Some(bytes) => self.route.pass(whose, stream, bytes, &mut self.outlet),
            None => {
                let stream = running.streams[whose.stream].take();
                stream
                    .into_iter()
                    .for_each(|stream| self.end_stream(whose, stream));
                let Some(running) = self.running.get(&whose.job) else {
                    return;
                };
                if running.is_over() {
                    self.end(whose.job);
                }
                Ok(())
            }
        };
        if let Err(failure) = passed {
            // What is written from now on is read, and dropped: nobody hangs.
            self.route = Route::Nowhere;
            self.stop(Stop::Soon, Some(failure));
        }
    }

    /// Closes pipes that were left open by jobs that ended a while ago.
    fn let_go(&mut self) {
        let now = Instant::now();
        while let Some(Lingering { job, attempt, .. }) = self
            .lingering
            .pop_front_if(|lingering| lingering.until <= now)
        {
            // It may be over, and even be tried again by now.
            let still =
                |running: &Running| running.exit.is_some() && running.job.attempt == attempt;
            if self.running.get(&job).is_some_and(still) {
                self.end(job);
            }
        }
    }

    /// A job's process has ended, and its output too.
    fn end(&mut self, number: u64) {
        let Some(Running {
            mut job,
            when,
            streams,
            exit,
            ..
        }) = self.running.remove(&number)
        else {
            return;
        };
        for (stream, left) in streams.into_iter().enumerate() {
            let whose = Whose {
                job: number,
                stream,
            };
            if let Some(mut left) = left {
                self.drain(whose, &mut left);
                self.end_stream(whose, left);
            }
        }
        let Some(exit) = exit else { return };
        let timeout = self.starter.timeout;
        let timed_out = exit.by_deadline()
            && timeout.is_some_and(|timeout| {
                exit.seen_at().saturating_duration_since(when.instant) >= timeout
            });
        let asked_to_end = self.ending.has_told();
        let record = Record::of_exit(&job, when, &exit, timed_out, asked_to_end);
        let failed = !record.success && !record.interrupted;
        if failed && job.attempt <= self.retries && !self.ending.is_stopping() {
            drop(record);
            job.attempt += 1;
            self.summary.attempt_again();
            return self.starter.gate.again(job);
        }
        self.finish(&job, &record);
        self.starter.gate.leave(1);
    }

    /// Passes on what is in a pipe that is about to be closed: among many, or behind a slow reader of ours, its
    /// turn may not have come. Not more than a full pipe, as its writer may be endless.
    fn drain(&mut self, whose: Whose, stream: &mut Stream) {
        let mut buffer = vec![0; PIPE_MAX];
        if stream.has_something()
            && let Some(bytes) = stream.read(&mut buffer)
            && let Err(failure) = self.route.pass(whose, stream, bytes, &mut self.outlet)
        {
            self.route = Route::Nowhere;
            self.stop(Stop::Soon, Some(failure));
        }
    }

    fn end_stream(&mut self, whose: Whose, stream: Stream) {
        // Closing it is not enough: a child that is being started has a copy until its exec, and as long as that is there,
        // so are events, which would be taken for those of the job's next attempt.
        let _ = epoll::delete(&self.starter.poll, stream.as_fd());
        self.route.end(whose, stream, &mut self.outlet);
    }

    fn finish(&mut self, job: &Job, record: &Record<'_>) {
        self.summary.add(record);
        if let Some(joblog) = &mut self.joblog
            && let Err(failure) = joblog.write(job, record)
        {
            self.joblog = None;
            self.stop(Stop::Soon, Some(failure));
        }
        if !record.success
            && let Some(failure) = self.starter.streams.full()
        {
            self.stop(Stop::Soon, Some(failure));
        }
        if self.records {
            self.outlet.out().extend(to_line(record));
        }
        if !record.success
            && !record.interrupted
            && let Some(stop) = self.fail_fast
        {
            self.stop(stop, None);
        }
    }

    // ---- ending early

    fn take_signals(&mut self) {
        for _ in 0..self.signals.come() {
            let inside = self.starter.gate.inside();
            let first = self.ending.interrupt() && !self.signals.at_once();
            self.stop(if first { Stop::Now } else { Stop::Kill }, None);
            if first && inside > 0 {
                self.say(&format!("interrupted: {inside} running jobs are told to end (once more: they are killed)\n"));
            }
        }
    }

    /// Nothing more is started; what is to become of what runs, `stop` says.
    fn stop(&mut self, stop: Stop, failure: Option<Failure>) {
        self.starter.gate.close();
        // Those that are being started are told when they are known.
        self.starter.inbox.alert();
        if self.ending.escalate(stop) {
            for running in self
                .running
                .values()
                .filter(|running| running.exit.is_none())
            {
                self.ending.tell(&running.child);
            }
        }
        if let Some(text) = failure.and_then(|failure| self.ending.fail(failure)) {
            self.say(&text);
        }
    }

    fn lost(&mut self, failure: Failure) {
        if let Some(text) = self.ending.lost(failure) {
            self.say(&text);
        }
    }

    // ---- telling

    fn say_crowded(&mut self, room: usize, why: &str) {
        if !std::mem::replace(&mut self.crowded_said, true) {
            self.say(&format!(
                "only {room} jobs run at a time, fewer than -j says: {why}\n"
            ));
        }
    }

    fn say(&mut self, text: &str) {
        self.outlet.err().extend(styled(text).bytes());
    }

    fn flush(&mut self) {
        let now = Instant::now();
        let until = self.ending.readers_until();
        self.flush_until(until.map(|until| until.min(now + READER_PATIENCE)));
    }

    /// When all have ended, nothing is left to do but to wait for who reads: until it is all taken, or the grace is over.
    fn flush_rest(&mut self) {
        loop {
            let until = self.ending.readers_until();
            self.flush_until(until);
            self.take_signals();
            if self.outlet.is_empty() || until.is_some_and(|until| until <= Instant::now()) {
                return self.outlet.give_up();
            }
        }
    }

    fn flush_until(&mut self, until: Option<Instant>) {
        if self.outlet.is_empty() {
            return;
        }
        let (outlet, signals) = (&mut self.outlet, &self.signals);
        let flushed = match outlet.is_seen() {
            true => self.progress.aside(|| outlet.flush(signals.as_fd(), until)),
            false => outlet.flush(signals.as_fd(), until),
        };
        match flushed {
            // A signal is about to be taken, or was, and what is left is offered again.
            Ok(()) | Err(Gone::Stuck) => {}
            Err(Gone::Broken) => {
                self.ending.reader_gone();
                self.stop(Stop::Now, None);
            }
            Err(Gone::Failed(error)) => {
                self.stop(Stop::Now, Some(Failure::writing("standard output", &error)));
            }
        }
    }

    fn show_progress(&mut self) {
        let Self {
            progress,
            starter,
            counts,
            summary,
            ..
        } = self;
        progress.show(|| Numbers {
            running: starter.gate.inside(),
            done: summary.finished() + counts.done_before(),
            failed: summary.failed() + counts.failed_before(),
            expected: counts.expected(),
        });
    }
}
