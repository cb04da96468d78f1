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
