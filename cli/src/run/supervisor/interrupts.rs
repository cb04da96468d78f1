//! What the conductor does about signals, and how it ends early.

use std::time::Duration;

use crate::dispositions;
use crate::duration;
use crate::failure::Failure;
use crate::run::report::record::Record;
use crate::run::signals::Meaning;
use crate::run::supervisor::Conductor;
use crate::run::supervisor::shutdown::Stop;
use crate::signal_name::name_or_number;

/// So soon after signals were sent it is looked which could not be.
const LOOK_SOON: Duration = Duration::from_millis(50);

impl Conductor {
    pub(in crate::run) fn take_signals(&mut self) {
        for (signal, meaning) in self.signals.take_pending() {
            match meaning {
                Meaning::End { at_once } => self.asked_to_end(signal, at_once),
                Meaning::More if self.foreground.is_some() => {
                    let name = name_or_number(signal);
                    self.say(&format!(
                        "{name} refused: with --stopped foreground one job runs at a time, as one at a time can have the terminal; \
                         --stopped report allows for more\n"
                    ));
                }
                Meaning::More => self.say_room(signal, self.starter.gate.widen()),
                Meaning::Fewer => self.say_room(signal, self.starter.gate.narrow()),
                Meaning::Stop => {
                    self.stop_lent_job();
                    self.progress.clear();
                    // Without it we go on, and nothing is lost.
                    let _ = dispositions::obey(signal);
                }
                Meaning::Unknown => {
                    if self.unknown_signals.insert(signal) {
                        let name = name_or_number(signal);
                        self.say(&format!("{name} ignored: it means nothing here\n"));
                    }
                }
                Meaning::Nothing => {}
            }
        }
    }

    fn say_room(&mut self, signal: i32, room: usize) {
        let name = name_or_number(signal);
        self.say(&format!(
            "{name}: at most {room} at a time run from now on\n"
        ));
    }

    pub(in crate::run) fn asked_to_end(&mut self, signal: i32, at_once: bool) {
        let Some(stop) = self.ending.request(at_once) else {
            return;
        };
        let inside = self.starter.gate.inside();
        self.stop(stop, None);
        let why = match signal {
            libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT => "interrupted".into(),
            _ => format!("interrupted by {}", name_or_number(signal)),
        };
        if inside > 0 {
            let grace = duration::show(self.ending.grace());
            self.say(&match stop {
                Stop::Soon | Stop::Now => format!(
                    "{why}: {inside} running jobs get SIGTERM, and SIGKILL after {grace}; a second request, a second from now or \
                     later, kills them at once\n"
                ),
                Stop::Kill => format!(
                    "{why}: {inside} running jobs are killed; another request, a second from now or later, leaves what has not \
                     ended by then\n"
                ),
                Stop::Leave => format!("{why} again: {inside} jobs are left as they are\n"),
            });
        }
        while let Some(held) = self.held.next(true) {
            self.judge(held);
        }
        if stop == Stop::Leave {
            self.leave_all();
        }
    }

    /// Nothing more is started; what is done about jobs that run, `stop` says.
    pub(in crate::run) fn stop(&mut self, stop: Stop, failure: Option<Failure>) {
        self.starter.gate.close();
        // Those that are being started are told when they are known.
        self.starter.inbox.alert();
        if self.ending.escalate(stop) {
            for running in self
                .running
                .values()
                .filter(|running| running.can_be_told())
            {
                self.ending.tell(&running.child);
            }
            self.looks.look_within(LOOK_SOON);
        }
        if let Some(text) = failure.and_then(|failure| self.ending.fail(failure)) {
            self.say(&text);
        }
    }

    pub(in crate::run) fn lost(&mut self, failure: Failure) {
        if let Some(text) = self.ending.lost(failure) {
            self.say(&text);
        }
    }

    /// All that still run are left, and recorded so.
    fn leave_all(&mut self) {
        let left: Vec<u64> = self.running.keys().copied().collect();
        for number in left {
            self.leave(number, "it has not ended of SIGKILL");
        }
        // One may be being started still, and never be.
        self.ending.leave_all();
    }

    /// A job that has not ended is not waited for. It is not done, so `--resume` runs it again.
    pub(in crate::run) fn leave(&mut self, number: u64, why: &str) {
        self.end_loan(number);
        // Its process has ended, and only others of its group have not: its record says how it did.
        if self
            .running
            .get(&number)
            .is_some_and(|running| running.exit.is_some())
        {
            return self.end(number);
        }
        let Some(running) = self.running.remove(&number) else {
            return;
        };
        let pid = running.child.pid();
        self.say(&format!(
            "job {number} (process {pid}) is left running: {why}\n"
        ));
        let reason = format!("left running as process {pid}: {why}");
        let record = Record::of_left_running(&running.job, running.when, reason);
        self.finish(&running.job, &record);
        if self
            .pipes
            .leave(number, running.job.attempt, &mut self.outlet)
        {
            self.say_closed();
        }
        self.starter.gate.leave(1);
    }
}
