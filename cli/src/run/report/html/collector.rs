//! What is kept of a run for its page.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use jiff::Timestamp;

use super::document;
use super::most::Most;
use super::sample::Sample;
use crate::run::output_tail::Tail;
use crate::run::report::record::{OutcomeKind, Record};
use crate::run::report::text::{one_line, shortened};
use crate::signal_name::name_or_number;

/// The most failed jobs, marks and characters that are kept.
const FAILED_MAX: usize = 1000;
const MARKS_MAX: usize = 20;
const COMMAND_MAX: usize = 1000;
const NAME_MAX: usize = 100;
/// Jobs that are kept because of their run time, their processor time, or their memory.
const MOST_MAX: usize = 20;
/// Larger values count as this large.
const VALUE_MAX: u64 = 1 << 50;

/// How an attempt ended, as a number in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndKind {
    Succeeded,
    Failed,
    TimedOut,
    Interrupted,
    /// It failed, and the job was run again.
    RunAgain,
    /// It succeeded, and an earlier attempt at the job had failed.
    Flaky,
}

/// A job that the page shows by itself.
#[derive(Debug)]
pub(super) struct ShownJob {
    pub(super) job: u64,
    pub(super) attempts: u32,
    pub(super) kind: EndKind,
    pub(super) result: String,
    pub(super) command: String,
    pub(super) wall: Duration,
    /// `None` if the job was not started or its usage is unknown.
    pub(super) cpu: Option<Duration>,
    pub(super) memory: Option<u64>,
    pub(super) slow: bool,
    /// With `--repeat`.
    pub(super) repeat: Option<NonZeroU32>,
}

pub(super) struct FailedJob {
    pub(super) shown: Rc<ShownJob>,
    /// The end of its output, if that passed through exitring.
    pub(super) output: Option<Tail>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) timed_out: u64,
    pub(super) not_started: u64,
    pub(super) interrupted: u64,
    pub(super) retries: u64,
    pub(super) flaky: u64,
    pub(super) slow: u64,
}

pub(crate) struct Collector {
    pub(super) started_at: Timestamp,
    begun: Instant,
    pub(super) counts: Counts,
    /// The sums over all attempts.
    pub(super) busy: Duration,
    pub(super) cpu: Duration,
    /// The highest slot.
    pub(super) slots: u32,
    /// Of jobs that ran and were not interrupted: microseconds, microseconds, bytes.
    pub(super) wall_micros: Histogram<u64>,
    pub(super) cpu_micros: Histogram<u64>,
    pub(super) memory_bytes: Histogram<u64>,
    by_wall: Most,
    by_cpu: Most,
    by_memory: Most,
    pub(super) failed: Vec<FailedJob>,
    pub(super) timeline: Sample,
    /// Requests to end: the time in microseconds, and the signal.
    pub(super) marks: Vec<(u64, String)>,
}

/// What is known at the end of the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunEnd {
    pub(crate) exit_code: u8,
    pub(crate) done_before: u64,
    pub(crate) failed_before: u64,
}

impl Collector {
    pub(crate) fn new() -> Self {
        let histogram = || {
            // The bounds are valid.
            let mut histogram = Histogram::new_with_max(VALUE_MAX, 2)
                .unwrap_or_else(|_| unreachable!("1 to a maximum"));
            histogram.auto(true);
            histogram
        };
        Self {
            started_at: Timestamp::now(),
            begun: Instant::now(),
            counts: Counts::default(),
            busy: Duration::ZERO,
            cpu: Duration::ZERO,
            slots: 0,
            wall_micros: histogram(),
            cpu_micros: histogram(),
            memory_bytes: histogram(),
            by_wall: Most::new(MOST_MAX),
            by_cpu: Most::new(MOST_MAX),
            by_memory: Most::new(MOST_MAX),
            failed: Vec::new(),
            timeline: Sample::default(),
            marks: Vec::new(),
        }
    }

    /// Adds an attempt. `last`: the job is not run again.
    pub(crate) fn add(&mut self, record: &Record<'_>, last: bool, output: Option<Tail>) {
        let kind = match (record.success, record.interrupted, record.timed_out) {
            (true, ..) if record.flaky => EndKind::Flaky,
            (true, ..) => EndKind::Succeeded,
            (_, true, _) => EndKind::Interrupted,
            _ if !last => EndKind::RunAgain,
            (_, _, true) => EndKind::TimedOut,
            _ => EndKind::Failed,
        };
        let wall = Duration::try_from_secs_f64(record.wall_seconds).unwrap_or_default();
        self.slots = self.slots.max(record.slot);
        self.busy = self.busy.saturating_add(wall);
        self.cpu = self.cpu.saturating_add(record.cpu());
        let start = micros(record.started.saturating_duration_since(self.begun));
        let is_failure = matches!(kind, EndKind::Failed | EndKind::TimedOut);
        self.timeline
            .add(record, start, micros(wall), kind, is_failure, || {
                (one_line(&record.command, NAME_MAX), result(record))
            });
        match last {
            true => self.add_job(record, kind, wall, output),
            // A job that was put back is no retry.
            false => self.counts.retries += u64::from(!record.interrupted),
        }
    }

    fn add_job(
        &mut self,
        record: &Record<'_>,
        kind: EndKind,
        wall: Duration,
        output: Option<Tail>,
    ) {
        let counts = &mut self.counts;
        match kind {
            EndKind::Succeeded | EndKind::Flaky => counts.succeeded += 1,
            EndKind::Interrupted => counts.interrupted += 1,
            _ => counts.failed += 1,
        }
        counts.flaky += u64::from(record.flaky);
        counts.slow += u64::from(record.slow);
        let ran = record.outcome != OutcomeKind::NotStarted;
        counts.timed_out += u64::from(kind == EndKind::TimedOut);
        counts.not_started += u64::from(!ran);
        let measured = record.max_rss_bytes.is_some();
        let cpu = measured.then(|| record.cpu());
        let mut shown = None;
        let mut show = || {
            let shown = shown.get_or_insert_with(|| {
                Rc::new(ShownJob {
                    job: record.job,
                    attempts: record.attempts,
                    kind,
                    result: result(record),
                    command: shortened(&record.command, COMMAND_MAX).into_owned(),
                    wall,
                    cpu,
                    memory: record.max_rss_bytes,
                    slow: record.slow,
                    repeat: record.repeat,
                })
            });
            Rc::clone(shown)
        };
        if ran && !record.interrupted {
            let wall = micros(wall);
            self.wall_micros.saturating_record(wall.clamp(1, VALUE_MAX));
            self.by_wall.add(wall, &mut show);
            if let (Some(cpu), Some(memory)) = (cpu, record.max_rss_bytes) {
                let cpu = micros(cpu);
                self.cpu_micros.saturating_record(cpu.clamp(1, VALUE_MAX));
                self.memory_bytes
                    .saturating_record(memory.clamp(1, VALUE_MAX));
                self.by_cpu.add(cpu, &mut show);
                self.by_memory.add(memory, &mut show);
            }
        }
        let is_failure = matches!(kind, EndKind::Failed | EndKind::TimedOut);
        if is_failure && self.failed.len() < FAILED_MAX {
            let shown = show();
            self.failed.push(FailedJob { shown, output });
        }
    }

    /// Adds a request to end.
    pub(crate) fn interrupted(&mut self, signal: i32) {
        if self.marks.len() < MARKS_MAX {
            let name = format!("interrupted ({})", name_or_number(signal));
            self.marks.push((micros(self.elapsed()), name));
        }
    }

    /// The page.
    pub(crate) fn page(&self, end: RunEnd) -> String {
        document::page(self, end)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The jobs with the longest run times, the most processor time and the most memory, the
    /// longest first.
    pub(super) fn most(&self) -> Vec<Rc<ShownJob>> {
        let all = [&self.by_wall, &self.by_cpu, &self.by_memory];
        let mut jobs: Vec<_> = all.into_iter().flat_map(Most::jobs).collect();
        jobs.sort_by_key(|shown| (std::cmp::Reverse(shown.wall), shown.job));
        jobs.dedup_by_key(|shown| shown.job);
        jobs
    }
}

fn result(record: &Record<'_>) -> String {
    match (record.success, record.flaky) {
        (true, true) => "flaky, succeeded".into(),
        (true, false) => "succeeded".into(),
        (false, _) => one_line(&record.description(), COMMAND_MAX),
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}
