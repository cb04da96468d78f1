//! The options of `exitring run` for lists of tests.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::schedule::retry_delay::RetryDelay;
use crate::duration;

/// Options for lists of tests.
#[derive(Debug, Args)]
pub(crate) struct TestOptions {
    /// Time until a failed job runs again, as in 2s or 1s..30s
    ///
    /// With 1s..30s the time doubles with each attempt, from 1 s up to 30 s. Other jobs run
    /// meanwhile.
    #[arg(
        long,
        value_name = "TIME",
        requires = "retries",
        hide_short_help = true,
        help_heading = "Tests"
    )]
    pub(crate) retry_delay: Option<RetryDelay>,

    /// Count a job as failed if only a retry succeeded
    #[arg(long, hide_short_help = true, help_heading = "Tests")]
    pub(crate) fail_flaky: bool,

    /// Run the list N times
    ///
    /// All of it, then all of it again. Jobs have EXITRING_REPEAT, from 1, and numbers that go on.
    #[arg(
        long,
        value_name = "N",
        value_parser = parse_repeat,
        hide_short_help = true,
        help_heading = "Tests"
    )]
    pub(crate) repeat: Option<u32>,

    /// Run the list again and again until a job fails
    ///
    /// At most as often as --repeat says. Running jobs continue to their ends, except with
    /// --fail-fast=now.
    #[arg(
        long,
        conflicts_with = "halt",
        hide_short_help = true,
        help_heading = "Tests"
    )]
    pub(crate) until_fail: bool,

    /// Start the longest jobs first, by an earlier job log
    ///
    /// With --shard, the shards take equally long. All shards need the same log.
    #[arg(
        long,
        value_name = "LOG",
        hide_short_help = true,
        help_heading = "Tests"
    )]
    pub(crate) durations: Option<PathBuf>,

    /// Run only jobs that failed in an earlier job log
    ///
    /// They are found by their commands, whatever their numbers are now.
    #[arg(
        long,
        value_name = "LOG",
        hide_short_help = true,
        help_heading = "Tests"
    )]
    pub(crate) rerun_failed: Option<PathBuf>,

    /// Report jobs that run longer, on standard error
    ///
    /// Again when they have run for twice the time, four times, and so on. Their records have slow.
    #[arg(
        long,
        value_name = "TIME",
        value_parser = duration::parse_positive,
        hide_short_help = true,
        help_heading = "Tests"
    )]
    pub(crate) slow_after: Option<Duration>,

    /// Write a report as JUnit XML to FILE
    ///
    /// CI services read it. The name of a test case is the line of the job, or its arguments. It has
    /// the end of the job's output, 32 KiB of each stream. FILE is replaced at the end of the run.
    #[arg(
        long,
        value_name = "FILE",
        hide_short_help = true,
        help_heading = "Tests"
    )]
    pub(crate) junit: Option<PathBuf>,
}

/// Parses the value of `--repeat`.
fn parse_repeat(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Err("with 0 no job would run; --dry-run only prints the commands".into()),
        Ok(times) => Ok(times),
        Err(_) => Err("expected a number from 1 to 4294967295".into()),
    }
}
