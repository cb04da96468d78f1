//! The summary of a run: counts, percentiles, the slowest jobs, the first failures.
//!
//! Its size does not depend on the number of jobs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anstyle::AnsiColor;
use hdrhistogram::Histogram;

use super::record::{OutcomeKind, Record};
use crate::{duration, locale};

const SLOWEST_SHOWN: usize = 5;
const FAILED_SHOWN: usize = 10;
/// Characters of a command that are shown.
const COMMAND_SHOWN: usize = 100;
/// The longest run time that is recorded: a hundred years. Longer times count as this long.
const MICROS_MAX: u64 = 100 * 365 * 24 * 3600 * 1_000_000;

pub(crate) struct Summary {
    start: Instant,
    succeeded: u64,
    failed: u64,
    timed_out: u64,
    out_of_memory: u64,
    leaky: u64,
    interrupted: u64,
    retries: u64,
    put_back: u64,
    flaky: u64,
    slow: u64,
    wall_micros: Histogram<u64>,
    cpu: Duration,
    slowest: BinaryHeap<Reverse<(u64, u64, String)>>,
    first_failed: Vec<(u64, String, String)>,
}

impl Summary {
    pub(crate) fn new() -> Self {
        // The bounds are valid.
        let mut wall_micros = Histogram::new_with_max(MICROS_MAX, 3)
            .unwrap_or_else(|_| unreachable!("1 to a maximum"));
        wall_micros.auto(true);
        Self {
            start: Instant::now(),
            succeeded: 0,
            failed: 0,
            timed_out: 0,
            out_of_memory: 0,
            leaky: 0,
            interrupted: 0,
            retries: 0,
            put_back: 0,
            flaky: 0,
            slow: 0,
            wall_micros,
            cpu: Duration::ZERO,
            slowest: BinaryHeap::with_capacity(SLOWEST_SHOWN + 1),
            first_failed: Vec::new(),
        }
    }

    pub(crate) fn finished(&self) -> u64 {
        self.succeeded + self.failed
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    pub(crate) fn add_retry(&mut self) {
        self.retries += 1;
    }

    pub(crate) fn add_put_back(&mut self) {
        self.put_back += 1;
    }

    pub(crate) fn add(&mut self, record: &Record<'_>) {
        let contained = record.containment.unwrap_or_default();
        self.leaky += u64::from(contained.leaky);
        self.flaky += u64::from(record.flaky);
        self.slow += u64::from(record.slow);
        match (record.interrupted, record.success) {
            (true, _) => self.interrupted += 1,
            (_, true) => self.succeeded += 1,
            _ => {
                self.failed += 1;
                self.timed_out += u64::from(record.timed_out);
                self.out_of_memory += u64::from(contained.out_of_memory);
                if self.first_failed.len() < FAILED_SHOWN {
                    self.first_failed.push((
                        record.job,
                        record.description(),
                        excerpt(&record.command),
                    ));
                }
            }
        }
        if record.outcome == OutcomeKind::NotStarted || record.interrupted {
            return;
        }
        self.cpu += record.cpu();
        let micros = (record.wall_seconds * 1e6) as u64;
        self.wall_micros
            .saturating_record(micros.clamp(1, MICROS_MAX));
        let full = self.slowest.len() == SLOWEST_SHOWN;
        if full
            && self
                .slowest
                .peek()
                .is_some_and(|Reverse((least, ..))| micros <= *least)
        {
            return;
        }
        self.slowest
            .push(Reverse((micros, record.job, excerpt(&record.command))));
        if full {
            self.slowest.pop();
        }
    }

    /// The summary as text.
    pub(crate) fn render(self, done_before: u64, failed_before: u64) -> String {
        let bold = anstyle::Style::new().bold();
        let (red, green) = (
            AnsiColor::Red.on_default().bold(),
            AnsiColor::Green.on_default().bold(),
        );
        let elapsed = self.start.elapsed();
        let mut text = String::new();
        let jobs = self.finished();
        let rate = jobs as f64 / elapsed.as_secs_f64().max(1e-6);
        let _ = write!(text, "{green}{} succeeded{green:#}", self.succeeded);
        let colour = if self.failed > 0 { red } else { bold };
        let _ = write!(text, ", {colour}{} failed{colour:#}", self.failed);
        for (count, what) in [
            (self.timed_out, "of them timed out"),
            (self.out_of_memory, "of them out of memory"),
            (self.leaky, "left processes behind"),
            (self.interrupted, "interrupted"),
            (self.flaky, "flaky"),
            (self.slow, "slow"),
            (self.retries, "retries"),
            (self.put_back, "put back"),
        ] {
            if count > 0 {
                let _ = write!(text, ", {count} {what}");
            }
        }
        let _ = writeln!(
            text,
            "; {} in total, {rate:.0} jobs/s",
            duration::show(elapsed)
        );
        if done_before > 0 {
            let _ = writeln!(
                text,
                "{done_before} were done by an earlier run, {failed_before} of them failed"
            );
        }
        if !self.wall_micros.is_empty() {
            let at = |percent| {
                duration::show(Duration::from_micros(
                    self.wall_micros.value_at_percentile(percent),
                ))
            };
            let (p50, p90, p99) = (at(50.0), at(90.0), at(99.0));
            let max = duration::show(Duration::from_micros(self.wall_micros.max()));
            let cpu = duration::show(self.cpu);
            let _ = writeln!(
                text,
                "run time p50 {p50}, p90 {p90}, p99 {p99}, longest {max}; processor time {cpu}"
            );
        }
        if jobs > 1 && !self.slowest.is_empty() {
            let _ = writeln!(text, "{bold}slowest{bold:#}");
            for Reverse((micros, job, command)) in self.slowest.into_sorted_vec() {
                let _ = writeln!(
                    text,
                    "  job {job}: {}: {command}",
                    duration::show(Duration::from_micros(micros))
                );
            }
        }
        if !self.first_failed.is_empty() {
            let _ = writeln!(text, "{red}failed{red:#}");
            let shown = self.first_failed.len() as u64;
            for (job, how, command) in self.first_failed {
                let _ = writeln!(text, "  job {job}: {how}: {command}");
            }
            if self.failed > shown {
                let _ = writeln!(
                    text,
                    "  and {} more; --joblog or --output jsonl lists all of them",
                    self.failed - shown
                );
            }
        }
        text
    }
}

/// The start of a command, on one line and without control characters.
pub(crate) fn excerpt(command: &str) -> String {
    let clean = command
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    let mut text: String = clean.take(COMMAND_SHOWN).collect();
    if command.chars().nth(COMMAND_SHOWN).is_some() {
        text.push_str(if locale::is_utf8() { "…" } else { "..." });
    }
    text
}
