//! The loop that sees jobs run and end: one thread that waits for everything, and to which all that is known about
//! running jobs belongs.

pub(crate) mod completion;
pub(crate) mod foreground;
pub(crate) mod grace_groups;
pub(crate) mod interrupts;
pub(crate) mod job_checks;
pub(crate) mod pending_ends;
pub(crate) mod shutdown;

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use exitring::{Child, Exit, TryRecvError};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::failure::Failure;
use crate::run::input::reader::Counts;
use crate::run::job::Job;
use crate::run::output::pipes::Pipes;
use crate::run::output::std_streams::{Gone, Outlet};
use crate::run::report::joblog::JobLog;
use crate::run::report::progress::{Numbers, Progress};
use crate::run::report::record::Record;
use crate::run::report::summary::Summary;
use crate::run::schedule::event_queue::{News, Started, When};
use crate::run::schedule::spawner::Starter;
use crate::run::signals::Signals;
use crate::run::supervisor::foreground::Foreground;
use crate::run::supervisor::grace_groups::Groups;
use crate::run::supervisor::job_checks::{Looks, Seen, Stopped};
use crate::run::supervisor::pending_ends::HeldJobs;
use crate::run::supervisor::shutdown::{Ending, Stop};
use crate::run::token::{Token, Whose};

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
    pub(crate) stopped: Stopped,
    /// The terminal, if a job that wants it gets it.
    pub(crate) foreground: Option<Foreground>,
    pub(crate) running: HashMap<u64, Running>,
    pub(crate) groups: Groups,
    /// Jobs that have ended, and are judged in a moment.
    pub(crate) held: HeldJobs,
    pub(crate) looks: Looks,
    /// Jobs that ended and left their pipes open, in the order of their ends.
    pub(crate) lingering: VecDeque<Lingering>,
    pub(crate) crowded_said: bool,
    /// It was said that pipes of background processes were closed.
    pub(crate) closed_said: bool,
    /// Those that were reported.
    pub(crate) unknown_signals: HashSet<i32>,
}

/// A job that has ended, and its pipes have not.
pub(crate) struct Lingering {
    until: Instant,
    job: u64,
    attempt: u32,
}

/// A job that runs, or whose group or output has not ended.
pub(crate) struct Running {
    pub(in crate::run) job: Job,
    pub(in crate::run) when: When,
    pub(in crate::run) child: Child,
    pub(in crate::run) exit: Option<Exit>,
    in_grace: bool,
    pub(in crate::run) was_in_grace: bool,
    pub(in crate::run) seen: Seen,
}

impl Running {
    /// Whether there is a process that could be told to end.
    pub(in crate::run) fn can_be_told(&self) -> bool {
        self.exit.is_none() || self.in_grace
    }
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
            self.look_at_groups();
            self.let_go();
            while let Some(held) = self.held.next(false) {
                self.judge(held);
            }
            self.look_at_jobs();
            self.flush();
            self.show_progress();
        }
        self.take_terminal_back();
        while let Some(held) = self.held.next(true) {
            self.judge(held);
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
        // Jobs may be started of which nothing has come here yet.
        let look = Some(self.looks.patience());
        let patience = patience
            .chain(linger)
            .chain(offer)
            .chain(self.pipes.patience())
            .chain(self.groups.patience());
        let patience = patience.chain(look).chain(self.held.patience()).min();
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
            in_grace: false,
            was_in_grace: false,
            seen: Seen::default(),
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
            running.in_grace = tagged.exit.by_deadline() && running.child.group_in_grace();
            running.was_in_grace = running.in_grace;
            running.exit = Some(tagged.exit);
            match running.in_grace {
                true => self.groups.add(tagged.tag),
                false => self.end_or_linger(tagged.tag),
            }
        }
    }

    /// A job's process has ended, and those whom it left in its group too, if they had a grace.
    fn end_or_linger(&mut self, number: u64) {
        self.end_loan(number);
        let Some(running) = self.running.get(&number) else {
            return;
        };
        let attempt = running.job.attempt;
        if !self.pipes.are_open(number, attempt) {
            return self.end(number);
        }
        self.lingering.push_back(Lingering {
            until: Instant::now() + LINGER,
            job: number,
            attempt,
        });
    }

    /// A job whose group has its grace has not ended: its place is not free, and what it writes is taken in.
    fn look_at_groups(&mut self) {
        for number in self.groups.ended(&self.running) {
            if let Some(running) = self.running.get_mut(&number) {
                running.in_grace = false;
                self.end_or_linger(number);
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
            running.exit.is_some()
                && !running.in_grace
                && !self.pipes.are_open(whose.job, running.job.attempt)
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

    // ---- telling

    fn say_crowded(&mut self, room: usize, why: &str) {
        if !std::mem::replace(&mut self.crowded_said, true) {
            self.say(&format!(
                "only {room} jobs run at a time, fewer than -j says: {why}\n"
            ));
        }
    }

    pub(in crate::run) fn say_closed(&mut self) {
        if !std::mem::replace(&mut self.closed_said, true) {
            self.say(
                "background processes of ended jobs hold too many pipes: the oldest pipes were closed, and who writes to them gets SIGPIPE \
                 (with --log, --append, --discard or a redirection of their own there are none; a higher ulimit -n allows for more)\n",
            );
        }
    }

    pub(in crate::run) fn say(&mut self, text: &str) {
        self.outlet.say(text);
    }

    pub(in crate::run) fn flush(&mut self) {
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
