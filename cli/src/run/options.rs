//! The options of `exitring run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::contain::options::ContainOptions;
use super::input::delimiter;
use super::input::shard::Wanted;
use super::jobserver::role::Style;
use super::output::options::OutputOptions;
use super::schedule::admission_options::AdmissionOptions;
use super::schedule::job_limit::JobLimit;
use super::stopped::Stopped;
use super::supervisor::halt::HaltRule;
use super::supervisor::shutdown::Stop;
use super::test_options::TestOptions;
use crate::duration;

const EXAMPLES: &str = "\
Examples:
  exitring run -j 8 commands.txt          one command per line, 8 at a time
  find . -name '*.png' -print0 | exitring run -0 -- optipng {}
  exitring run -- convert {} out/{/.}.jpg ::: *.png
  exitring run -- ./train --seed {} --lr {2} ::: 1 2 3 ::: 0.1 0.01
  exitring run --timeout 5m --retries 2 --joblog run.log --resume tests.txt
  exitring run --output jsonl list | jq 'select(.success == false)'
  srun -n 100 exitring run --joblog log.$SLURM_PROCID commands.txt

Exit status: 0 all jobs succeeded; 1 some failed; 2 usage; 3 a resource ran out; 130 interrupted; \
    141 standard output was closed.";

const POINTERS: &str =
    "All options: --help. All about them: man exitring-run, or exitring man run.";

/// Run many commands, a number of them at a time, and report how each ended
///
/// Commands come from FILE or standard input, one per line, and start as they are read, so the list
/// may be endless. Or they come from a template after --, and arguments.
///
/// Each job is a process group of its own. A timeout or Ctrl-C sends SIGTERM to the group, and
/// SIGKILL after the grace. Processes that a job leaves in the background when it ends by itself
/// live on.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = POINTERS)]
pub(crate) struct Options {
    /// One command per line; - or no FILE: standard input
    ///
    /// Blank lines and lines that begin with # are skipped. With a template, one argument per line,
    /// and none is skipped.
    pub(crate) file: Option<PathBuf>,

    /// A template: COMMAND {} ::: ARGUMENTS
    ///
    /// {} stands for the argument, {1} and {2} for those of the first and second :::, {#} for the
    /// number of the job, {%} for its slot. {.} is the argument without its extension, {/} without
    /// its directory, {//} its directory, {/.} its name without directory and extension. {1.} and
    /// so on are parts of one argument. Arguments are appended to a template without a placeholder
    /// for them. :::+ links a list of arguments with the one before. :::: and ::::+ are followed by
    /// files whose lines are the arguments. Without any of these the arguments are the lines of
    /// FILE or standard input.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,

    /// Run N jobs at a time [default: one per processor]
    ///
    /// 200% stands for two per processor, +1 and -1 for one more or one fewer than there are
    /// processors. SIGUSR1 adds one, SIGUSR2 removes one.
    #[arg(short, long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) jobs: Option<JobLimit>,

    /// End a job that runs longer, as in 90, 300ms, 1m30s
    ///
    /// The process group of the job gets SIGTERM, and SIGKILL after --grace.
    #[arg(long, value_name = "TIME", value_parser = duration::parse_positive)]
    pub(crate) timeout: Option<Duration>,

    /// Time from SIGTERM to SIGKILL
    ///
    /// It applies to timeouts and interrupts, and to the whole process group of a job.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "5s")]
    pub(crate) grace: Duration,

    /// Run a failed job again, up to N times
    ///
    /// A job that could not be started is not run again.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) retries: u32,

    /// Start no more jobs after a failure
    ///
    /// With soon, which is the default, running jobs go on to their ends. With now, they get
    /// SIGTERM, and SIGKILL after the grace.
    #[arg(
        long,
        value_name = "HOW",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "soon",
        hide_possible_values = true
    )]
    pub(crate) fail_fast: Option<Stop>,

    /// End the run early, as in now,fail=10%
    ///
    /// WHEN,WHAT=N or WHEN,WHAT=N%, as in GNU parallel: soon starts no more jobs, now also ends
    /// running ones; fail, success and done say which jobs count. A percentage is of all jobs of
    /// the run. With success the exit status is 0 then. never is the default.
    #[arg(
        long,
        value_name = "RULE",
        allow_hyphen_values = true,
        conflicts_with = "fail_fast"
    )]
    pub(crate) halt: Option<HaltRule>,

    /// Time from the start of one job to that of the next
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) delay: Option<Duration>,

    /// Print the commands and run nothing
    ///
    /// Commands are printed as one would type them. With --resume, those that are left. The slot of
    /// a job is not known then and stays {%}.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Run jobs in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,

    /// Set a variable for jobs
    ///
    /// Jobs inherit all variables. NAME without a value requires that the variable is set. The
    /// option may be repeated.
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<OsString>,

    /// What jobs read: null (default), arg, or a file
    ///
    /// null is /dev/null. arg is the arguments of the job, one per line. A file is opened for each
    /// job, and its name may have placeholders: --stdin {} has each job read the file that its
    /// argument names.
    #[arg(long, value_name = "FILE")]
    pub(crate) stdin: Option<OsString>,

    /// Report, fail, or foreground a stopped job
    ///
    /// A job is stopped if it reads from the terminal, for example. It is reported, once, and
    /// waited for (report); or ended, and failed (fail); or, with -j 1, given the terminal if it
    /// wants that (foreground).
    #[arg(
        long,
        value_name = "HOW",
        value_enum,
        default_value = "report",
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub(crate) stopped: Stopped,

    /// Run only shard I of N of the list [default: auto]
    ///
    /// none runs the whole list. auto takes the shard from the environment, as Slurm, Kubernetes or
    /// a CI service sets it. Without this option the variable EXITRING_SHARD, which has the same
    /// values, decides, but not in a job of another run.
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Wanted>,

    /// Items end with a NUL byte, as from find -print0
    ///
    /// Nothing is removed from an item, and blank items and items that begin with # count.
    #[arg(short = '0', long, help_heading = "List")]
    pub(crate) null: bool,

    /// Items end with this byte, as in , or \n
    ///
    /// An escape is as in C: \n, \t, \0, \054, \x2c. Otherwise as --null.
    #[arg(
        short,
        long,
        value_name = "BYTE",
        value_parser = delimiter::parse,
        conflicts_with = "null",
        help_heading = "List"
    )]
    pub(crate) delimiter: Option<u8>,

    /// Give each job up to N arguments of the list
    ///
    /// {} stands for all of them, each in a word of its own. {1} and {2} are the first and the
    /// second argument of the job. A job has fewer than N if more would be longer than 128 KiB.
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        value_parser = parse_max_args,
        requires = "command",
        help_heading = "List"
    )]
    pub(crate) max_args: Option<u32>,

    /// Have this shell execute every line
    ///
    /// Without this option, sh -c executes the lines that need a shell.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["no_shell", "command"], help_heading = "List")]
    pub(crate) shell: Option<OsString>,

    /// Have no shell execute a line
    ///
    /// Quotes are understood, nothing is expanded.
    #[arg(long, conflicts_with = "command", help_heading = "List")]
    pub(crate) no_shell: bool,

    #[command(flatten)]
    pub(crate) output: OutputOptions,

    /// Write a record of each finished job to FILE
    #[arg(long, value_name = "FILE", help_heading = "Job log")]
    pub(crate) joblog: Option<PathBuf>,

    /// Continue the run that wrote the job log
    ///
    /// Jobs that have finished do not run again. The exit status is 1 if some of them failed.
    #[arg(long, requires = "joblog", help_heading = "Job log")]
    pub(crate) resume: bool,

    /// Like --resume, but run failed jobs again
    #[arg(long, requires = "joblog", help_heading = "Job log")]
    pub(crate) resume_failed: bool,

    /// Share -j with jobs that are make, cargo or exitring
    ///
    /// The run provides a jobserver as make does. pipe, which is the default, passes descriptors
    /// on and serves every make. fifo passes a path on and serves make 4.4 and ninja 1.13. In a run
    /// that takes part in a jobserver the jobs share that one.
    #[arg(
        long,
        value_name = "STYLE",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "pipe",
        hide_possible_values = true,
        hide_short_help = true,
        help_heading = "Jobserver"
    )]
    pub(crate) jobserver: Option<Style>,

    /// Ignore the jobserver of make that MAKEFLAGS names
    ///
    /// Without this option, a run in a recipe of make -j counts its jobs among those of make.
    #[arg(long, hide_short_help = true, help_heading = "Jobserver")]
    pub(crate) no_jobserver: bool,
    #[command(flatten)]
    pub(crate) admission: AdmissionOptions,

    #[command(flatten)]
    pub(crate) contain: ContainOptions,
    /// Write an HTML report of the run to FILE, as in run.html
    ///
    /// It shows a timeline, distributions of time and memory, failed jobs with the end of their
    /// output, and the slowest and largest jobs. It refers to no other file and needs no network.
    /// It is written at the end of the run.
    #[arg(
        long,
        value_name = "FILE",
        hide_short_help = true,
        help_heading = "Reports"
    )]
    pub(crate) report: Option<PathBuf>,

    /// Write a trace of the run to FILE, for ui.perfetto.dev
    ///
    /// It has a lane for each slot and an event for each attempt, in the trace event format of
    /// Chrome. It is written while the run goes on.
    #[arg(
        long,
        value_name = "FILE",
        hide_short_help = true,
        help_heading = "Reports"
    )]
    pub(crate) trace: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) tests: TestOptions,

    #[cfg(feature = "queue")]
    #[command(flatten)]
    pub(crate) queue: crate::queue::WorkerOptions,

    /// The number of threads that start jobs; each blocks in every exec
    #[arg(long, value_name = "N", default_value_t = 4, hide = true, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) starters: u16,
}

/// Parses the value of `--max-args`.
pub(crate) fn parse_max_args(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Err(
            "with 0 arguments jobs would not depend on the list; for N times the same command, give it a placeholder that it ignores, as in: -- sh -c COMMAND {} ::: $(seq N)".into(),
        ),
        Ok(max) => Ok(max),
        Err(_) => Err("expected a number from 1 to 4294967295".into()),
    }
}
