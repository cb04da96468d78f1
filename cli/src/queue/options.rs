//! The options of the queue's subcommands, and those of a worker.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::address::QueueUrl;
use crate::duration;
use crate::run::input::delimiter;
use crate::run::schedule::retry_delay::RetryDelay;

/// How to log in at the server.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoginOptions {
    /// Log in with this credentials file [env: NATS_CREDS]
    ///
    /// A user and a password come from the address, or from NATS_USER and NATS_PASSWORD, which other
    /// users of the machine cannot see.
    #[arg(
        long,
        requires = "queue",
        value_name = "FILE",
        hide_short_help = true,
        help_heading = "Queue"
    )]
    pub(crate) creds: Option<PathBuf>,

    /// Trust only these certificates, not those of the system [env: NATS_CA]
    #[arg(
        long,
        requires = "queue",
        value_name = "FILE",
        hide_short_help = true,
        help_heading = "Queue"
    )]
    pub(crate) ca: Option<PathBuf>,
}

/// The queue of a subcommand.
#[derive(Debug, Args)]
pub(crate) struct ServerOptions {
    /// The queue: nats://HOST/RUN or tls://HOST/RUN
    ///
    /// HOST is a name or an address, with a port if it is not 4222. Several hosts of a cluster are
    /// separated by commas. RUN is the name of the run: letters, digits, - and _.
    #[arg(long, value_name = "URL", help_heading = "Queue")]
    pub(crate) queue: QueueUrl,

    #[command(flatten)]
    pub(crate) login: LoginOptions,
}

/// The options of `exitring run` as a worker of a queue.
#[derive(Debug, Args)]
pub(crate) struct WorkerOptions {
    /// Run jobs of a queue: nats://HOST/RUN
    ///
    /// `exitring submit` has submitted the list, and how jobs run. This process takes as many jobs
    /// at a time as -j allows, and ends when all jobs of the run have a result.
    #[arg(
        long,
        value_name = "URL",
        conflicts_with_all = [
            "file", "command", "null", "delimiter", "max_args", "shell", "no_shell", "stdin", "env",
            "cwd", "timeout", "grace", "retries", "retry_delay", "shard", "keep_order", "resume",
            "resume_failed", "repeat", "until_fail", "durations", "rerun_failed", "dry_run",
            "fail_flaky", "tagstring", "jobserver",
        ],
        hide_short_help = true,
        help_heading = "Queue"
    )]
    pub(crate) queue: Option<QueueUrl>,

    /// Wait for the run if it is not submitted yet
    #[arg(
        long,
        requires = "queue",
        hide_short_help = true,
        help_heading = "Queue"
    )]
    pub(crate) wait: bool,

    #[command(flatten)]
    pub(crate) login: LoginOptions,
}

const SUBMIT_EXAMPLES: &str = "\
Examples:
  exitring submit --queue nats://host/nightly --timeout 10m tests.txt
  exitring submit --queue nats://host/png -- convert {} {.}.jpg ::: *.png
  exitring run --queue nats://host/nightly -j 8          on each machine
  exitring results --queue nats://host/nightly --follow

Exit status: 0 all jobs are in the queue; 2 usage, or the run has another list; 3 the server cannot \
    be reached or has no room.";

/// Submit a list of jobs to a queue on a NATS server
///
/// Workers on any number of machines (exitring run --queue) take the jobs. The options here belong
/// to the run, and apply on every worker. After an error or a crash the same command continues:
/// each job is in the queue exactly once.
#[derive(Debug, Args)]
#[command(after_help = SUBMIT_EXAMPLES)]
pub(crate) struct SubmitOptions {
    #[command(flatten)]
    pub(crate) server: ServerOptions,

    /// One command per line; - or no FILE: standard input
    ///
    /// As for exitring run. The list is read to its end before the first job is submitted.
    pub(crate) file: Option<PathBuf>,

    /// A template: COMMAND {} ::: ARGUMENTS
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,

    /// End a job that runs longer, as in 90, 300ms, 1m30s
    #[arg(long, value_name = "TIME", value_parser = duration::parse_positive)]
    pub(crate) timeout: Option<Duration>,

    /// Time from SIGTERM to SIGKILL
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "5s")]
    pub(crate) grace: Duration,

    /// Run a failed job again, up to N times
    ///
    /// On the same worker.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) retries: u32,

    /// Time until a failed job runs again, as in 1s..30s
    ///
    /// With 1s..30s the time doubles with each attempt, from 1 s up to 30 s.
    #[arg(long, value_name = "TIME", requires = "retries")]
    pub(crate) retry_delay: Option<RetryDelay>,

    /// Count a job as failed if only a retry succeeded
    #[arg(long)]
    pub(crate) fail_flaky: bool,

    /// Run jobs in this directory of the worker's machine
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,

    /// Set a variable for jobs
    ///
    /// NAME without a value takes the value that it has here. The option may be repeated.
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<OsString>,

    /// What jobs read: null (default), arg, or a file
    ///
    /// The file is on the worker's machine.
    #[arg(long, value_name = "FILE")]
    pub(crate) stdin: Option<OsString>,

    /// Items end with a NUL byte, as from find -print0
    #[arg(short = '0', long, help_heading = "List")]
    pub(crate) null: bool,

    /// Items end with this byte, as in , or \n
    #[arg(short, long, value_name = "BYTE", value_parser = delimiter::parse, conflicts_with = "null", help_heading = "List")]
    pub(crate) delimiter: Option<u8>,

    /// Give each job up to N arguments of the list
    #[arg(short = 'n', long, value_name = "N", value_parser = crate::run::parse_max_args, requires = "command", help_heading = "List")]
    pub(crate) max_args: Option<u32>,

    /// Have this shell execute every line
    #[arg(long, value_name = "PATH", conflicts_with_all = ["no_shell", "command"], help_heading = "List")]
    pub(crate) shell: Option<OsString>,

    /// Have no shell execute a line
    #[arg(long, conflicts_with = "command", help_heading = "List")]
    pub(crate) no_shell: bool,

    /// Time until jobs of a lost worker run again
    ///
    /// Workers renew the lease of each job in a third of the time. A worker that does not is lost.
    #[arg(long, value_name = "TIME", value_parser = parse_lease, default_value = "30s", help_heading = "Queue")]
    pub(crate) lease: Duration,

    /// Give up a job whose worker was lost N times
    ///
    /// A worker is lost if it dies, or cannot reach the server for the time of the lease. Jobs that
    /// a worker gives back when it ends do not count.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Queue")]
    pub(crate) max_lost: u32,

    /// Store messages on N servers of the cluster
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5), help_heading = "Queue")]
    pub(crate) replicas: u8,

    /// Print nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

fn parse_lease(text: &str) -> Result<Duration, String> {
    let lease = duration::parse(text)?;
    match lease {
        lease if lease < Duration::from_millis(500) => {
            Err("a lease of less than 500ms would be lost by every delay".into())
        }
        lease if lease > Duration::from_secs(24 * 3600) => Err(
            "a lease is at most 24h, the time after which the jobs of a dead worker run again"
                .into(),
        ),
        lease => Ok(lease),
    }
}

/// What standard output shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResultsOutput {
    /// What each job has written, by whole records.
    Human,
    /// A record for each end of a job, as JSON lines.
    Jsonl,
    /// A report as JUnit XML, when all jobs have a result.
    Junit,
}

/// Show the results of a run on a queue
///
/// In the order in which the jobs have ended. Each job has exactly one accepted result. If a job ran
/// again because its worker was lost, and both have a result, the first one counts.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 all jobs succeeded; 1 some failed, or have no result; 2 usage; 3 the server cannot be reached.")]
pub(crate) struct ResultsOptions {
    #[command(flatten)]
    pub(crate) server: ServerOptions,

    /// Wait until all jobs have a result
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Write the accepted records to a new job log
    #[arg(long, value_name = "FILE")]
    pub(crate) joblog: Option<PathBuf>,

    /// Write the whole logs of jobs to files in DIR
    ///
    /// NUMBER.out and NUMBER.err, of accepted records, if the worker had --log nats. A stream without
    /// output has no file.
    #[arg(long, value_name = "DIR")]
    pub(crate) logs: Option<PathBuf>,

    /// Standard output: human (default), jsonl, or junit
    ///
    /// human shows the end of what the jobs have written. jsonl has all records; one that does not
    /// count has "accepted": false. junit is a report as JUnit XML.
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "human",
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub(crate) output: ResultsOutput,

    /// Print no summary
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Show, cancel or delete a run on a queue
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct QueueOptions {
    #[command(subcommand)]
    pub(crate) command: QueueCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Show the counts of a run, its workers, and when it will end
    Status(StatusOptions),
    /// End a run: running jobs are ended, and no more start
    ///
    /// Workers end running jobs as after Ctrl-C, and end. What has a result keeps it.
    Cancel(ServerOptions),
    /// Delete a run: its jobs and its results
    ///
    /// Workers that still run end with an error.
    Delete(ServerOptions),
}

/// The options of `exitring queue status`.
#[derive(Debug, Args)]
pub(crate) struct StatusOptions {
    #[command(flatten)]
    pub(crate) server: ServerOptions,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
