//! The loop that sees jobs run and end: one thread that waits for everything, and to which all that is known about
//! running jobs belongs.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
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
use super::pipes::Pipes;
use super::progress::{Numbers, Progress};
use super::reader::Counts;
use super::record::{Record, to_line};
use super::signals::Signals;
use super::starter::Starter;
use super::summary::Summary;
use super::token::{Token, Whose};
use crate::failure::Failure;

/// So long after a job's end, what it left running may go on writing to its pipes.
const LINGER: Duration = Duration::from_millis(100);
/// When we are asked to end, those who read what we write are waited for so long at a time, between all else that is to be done.
const READER_PATIENCE: Duration = Duration::from_millis(100);
/// How soon what they have not taken is offered again.
const OFFER_AGAIN: Duration = Duration::from_millis(20);
const EVENTS_AT_ONCE: usize = 256;

/// What the conductor is to do beyond starting jobs.
pub(crate) struct Conductor {
    pub(crate) starter: Arc<Starter>,
    pub(crate) signals: Signals,
    pub(crate) counts: Arc<Counts>,
    pub(crate) pipes: Pipes,
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
    /// It was said that pipes of background processes were closed.
    pub(crate) closed_said: bool,
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
    exit: Option<Exit>,
}

impl Conductor {
    /// Goes on until the last job has ended. Returns the pipes that somebody may still write to.
    pub(crate) fn conduct(&mut self) -> Vec<OwnedFd> {
        let mut events = Vec::with_capacity(EVENTS_AT_ONCE);
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
                    Token::Output(whose) => self.take_output(whose, hung_up, &mut news),
                }
                if self.outlet.is_much() {
                    self.flush();
                }
            }
            self.take_news(&mut news);
            self.break_line();
            self.let_go();
            self.flush();
            self.show_progress();
        }
        // Of what made it over.
        self.take_news(&mut news);
        let open = self.pipes.finish(&mut self.outlet);
        self.flush_rest();
        self.progress.end();
        open
    }

    fn wait(&mut self, events: &mut Vec<epoll::Event>) {
        let linger = self
            .lingering
            .front()
            .filter(|_| !self.pipes.are_paused())
            .map(|lingering| lingering.until.saturating_duration_since(Instant::now()));
        let offer = (!self.outlet.is_empty()).then_some(OFFER_AGAIN);
        let patience = self.progress.patience().into_iter();
        let patience = patience.chain(linger).chain(offer);
        let patience = patience.chain(self.pipes.patience()).min();
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
                    self.say(&format!(
                        "job {} was not started: {}\n",
                        job.number, why.why
                    ));
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
        // It was on its way when the others were told.
        self.ending.tell(&child);
        self.pipes.add(job.number, job.attempt, pipes);
        let running = Running {
            job,
            when,
            child,
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
            if !self.pipes.are_open(tagged.tag, running.job.attempt) {
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
    fn take_output(&mut self, whose: Whose, hung_up: bool, news: &mut Vec<News>) {
        if !self.pipes.has(whose) {
            self.take_news(news);
        }
        self.pipes.take(whose, hung_up, &mut self.outlet);
        if self.running.get(&whose.job).is_some_and(|running| {
            running.exit.is_some() && !self.pipes.are_open(whose.job, running.job.attempt)
        }) {
            self.end(whose.job);
        }
    }

    /// Ends a line that others have waited for for too long.
    fn break_line(&mut self) {
        if let Some(job) = self.pipes.break_line(&mut self.outlet) {
            self.say(&format!(
                "job {job}: a line longer than 1 MiB was ended before its end, as the output of others had waited for it for too long\n"
            ));
        }
    }

    /// Ends jobs whose process ended a while ago and whose pipes are open.
    fn let_go(&mut self) {
        if self.pipes.are_paused() {
            return;
        }
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
            exit,
            ..
        }) = self.running.remove(&number)
        else {
            return;
        };
        if self.pipes.leave(number, job.attempt, &mut self.outlet) {
            self.say_closed();
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

    fn finish(&mut self, job: &Job, record: &Record<'_>) {
        self.summary.add(record);
        if let Some(joblog) = &mut self.joblog
            && let Err(failure) = joblog.write(job, record)
        {
            self.joblog = None;
            self.stop(Stop::Soon, Some(failure));
        }
        if let Some(failure) = self.starter.streams.end(job.number, record.success) {
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

    fn say_closed(&mut self) {
        if !std::mem::replace(&mut self.closed_said, true) {
            self.say(
                "background processes of ended jobs hold too many pipes: the oldest pipes were closed, and who writes to them gets SIGPIPE \
                 (with --log, --append, --discard or a redirection of their own there are none; a higher ulimit -n allows for more)\n",
            );
        }
    }

    fn say(&mut self, text: &str) {
        self.outlet.say(text);
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
        let begun = Instant::now();
        let (outlet, signals) = (&mut self.outlet, &self.signals);
        let flushed = match outlet.is_seen() {
            true => self.progress.aside(|| outlet.flush(signals.as_fd(), until)),
            false => outlet.flush(signals.as_fd(), until),
        };
        self.pipes.was_held_up(begun.elapsed());
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
            outlet,
            ..
        } = self;
        if outlet.is_in_line() {
            return;
        }
        progress.show(|| Numbers {
            running: starter.gate.inside(),
            done: summary.finished() + counts.done_before(),
            failed: summary.failed() + counts.failed_before(),
            expected: counts.expected(),
        });
    }
}
