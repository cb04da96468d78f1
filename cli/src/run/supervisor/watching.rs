//! The supervisor's part of `--watch`: what the view shows, and the output that waits for its end.

use std::time::Instant;

use super::Supervisor;
use super::running_job::RunningJob;
use super::shutdown::Stop;
use crate::failure::Failure;
use crate::run::report::progress::ProgressCounts;
use crate::run::report::text::one_line;
use crate::run::watch::snapshot::{RunningRow, Snapshot};

/// Characters of a text of a job, more than most screens show.
const TEXT_MAX: usize = 300;

impl Supervisor {
    /// Draws the view if it is time.
    pub(super) fn update_watch(&mut self) {
        let Self {
            watch: Some(watch),
            running,
            pipes,
            spawner,
            counts,
            summary,
            std_streams,
            ..
        } = self
        else {
            return;
        };
        watch.update(|rows, elapsed, failed| {
            let mut longest: Vec<_> = running.values().filter(|job| job.exit.is_none()).collect();
            let start = |running: &&RunningJob| running.start_time.instant;
            if longest.len() > rows {
                longest.select_nth_unstable_by_key(rows, start);
                longest.truncate(rows);
            }
            longest.sort_unstable_by_key(|running| (start(running), running.job.number));
            let now = Instant::now();
            let row = |running: &RunningJob| RunningRow {
                job: running.job.number,
                attempt: running.job.attempt,
                since: now.saturating_duration_since(running.start_time.instant),
                command: one_line(&running.job.command_text(), TEXT_MAX),
                last_line: pipes
                    .last_line(running.job.number, running.job.attempt)
                    .map_or_else(String::new, |line| one_line(&line, TEXT_MAX)),
            };
            Snapshot {
                elapsed,
                counts: ProgressCounts {
                    running: spawner.admission.active(),
                    done: summary.finished() + counts.done_before(),
                    failed: summary.failed() + counts.failed_before(),
                    expected: counts.expected(),
                    hold_reason: spawner.admission.hold_reason(),
                },
                running: longest.into_iter().map(row).collect(),
                failed,
            }
        });
        if let Some(error) = std_streams.take_hold_failure() {
            let dir = std::env::temp_dir();
            let what = format!(
                "output that waits for the end of the run (--watch), in {}",
                dir.display()
            );
            self.stop(Stop::Now, Some(Failure::writing(&what, &error)));
        }
    }

    /// Ends the view, and writes what has waited for that. After a request to end, readers have as
    /// long as they have for other output.
    pub(super) fn end_watch(&mut self) {
        // Returns the terminal.
        if self.watch.take().is_none() {
            return;
        }
        self.std_streams.begin_release();
        while self.std_streams.release_next() {
            if self.std_streams.is_large() {
                self.flush_remaining();
                let until = self.shutdown.output_deadline();
                if until.is_some_and(|until| until <= Instant::now()) {
                    return self.std_streams.end_release();
                }
            }
        }
        self.std_streams.end_release();
    }
}
