//! The options of the output of jobs.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{self, Path, PathBuf};

use clap::{Args, ValueEnum};

use super::destination::Destination;
use super::job_stream::Route;
use super::logs::Logs;
use crate::failure::Failure;

/// What becomes of the output of jobs.
#[derive(Debug, Args)]
pub(crate) struct OutputOptions {
    /// Standard output: human (default) or jsonl
    ///
    /// human passes on what the jobs write, by whole lines. jsonl writes lines of JSON: a record
    /// for each finished job, and for each line that a job writes.
    #[arg(
        id = "output",
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "human",
        hide_possible_values = true,
        hide_default_value = true,
        help_heading = "Output"
    )]
    pub(crate) format: Format,

    /// Forward the output of jobs in the order of the list
    ///
    /// The output of the first job that has not ended is forwarded as it arrives. What later jobs
    /// write waits in memory, and beyond 4 MiB in an unlinked file in TMPDIR or /tmp.
    #[arg(short, long, help_heading = "Output")]
    pub(crate) keep_order: bool,

    /// Begin each line with the arguments of its job
    ///
    /// A tab follows. For a list of commands it is the command. Line ends in it become spaces.
    /// Records have it in the field tag.
    #[arg(long, conflicts_with = "tagstring", help_heading = "Output")]
    pub(crate) tag: bool,

    /// The same with a text, which may have placeholders
    #[arg(
        long,
        value_name = "TEXT",
        hide_short_help = true,
        help_heading = "Output"
    )]
    pub(crate) tagstring: Option<OsString>,

    /// Have jobs write to DIR/NUMBER.out and DIR/NUMBER.err
    ///
    /// The jobs write to the files themselves. A file that is empty when its job ends is removed,
    /// unless a process still has it open. On a full disk jobs fail, which then ends the run. With
    /// --queue, nats stores the logs on the server, for exitring results --logs; ./nats is a directory.
    #[arg(long, value_name = "DIR", group = "streams", help_heading = "Output")]
    pub(crate) log: Option<PathBuf>,

    /// Have all jobs append to one file
    ///
    /// The jobs write to the file themselves. On a full disk they fail, which then ends the run.
    #[arg(long, value_name = "FILE", group = "streams", help_heading = "Output")]
    pub(crate) append: Option<PathBuf>,

    /// Have jobs inherit standard output and error
    ///
    /// Lines of different jobs may mix.
    #[arg(long, group = "streams", help_heading = "Output")]
    pub(crate) inherit: bool,

    /// Discard the output of jobs
    #[arg(long, group = "streams", help_heading = "Output")]
    pub(crate) discard: bool,

    /// Show no progress bar and no summary
    ///
    /// Errors are still reported on standard error.
    #[arg(short, long, help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Show a progress bar at a terminal, also with -q
    #[arg(
        long,
        overrides_with = "no_bar",
        hide_short_help = true,
        help_heading = "Output"
    )]
    pub(crate) bar: bool,

    /// Show no progress bar
    #[arg(
        long,
        overrides_with = "bar",
        hide_short_help = true,
        help_heading = "Output"
    )]
    pub(crate) no_bar: bool,

    /// Show running and failed jobs in a full-screen view
    ///
    /// Standard error must be a terminal. The output of jobs to the terminal, and messages, follow
    /// when the run has ended. Until then they are in an unlinked file in TMPDIR or /tmp.
    #[arg(
        long,
        conflicts_with_all = ["inherit", "bar"],
        hide_short_help = true,
        help_heading = "Output"
    )]
    pub(crate) watch: bool,
}

impl OutputOptions {
    /// Opens where jobs write to. `cwd`: the directory that this process changes to later.
    pub(crate) fn open(&self, cwd: Option<&Path>) -> Result<(Destination, Route), Failure> {
        let route = match self.format {
            Format::Human => Route::Lines,
            Format::Jsonl => Route::Records,
        };
        let elsewhere = [
            ("--log", self.log.is_some()),
            ("--append", self.append.is_some()),
            ("--inherit", self.inherit),
            ("--discard", self.discard),
        ];
        let elsewhere = elsewhere.into_iter().find(|(_, given)| *given);
        if let (Some((option, _)), true) = (elsewhere, self.tag || self.tagstring.is_some()) {
            let cause = format!(
                "--tag cannot be combined with {option}: the output of jobs does not pass through exitring"
            );
            return Err(Failure::usage(cause).remedy(format!("remove --tag or {option}")));
        }
        if let (Some((option @ ("--append" | "--inherit"), _)), true) = (elsewhere, self.keep_order)
        {
            let cause = format!(
                "--keep-order cannot be combined with {option}: jobs write to the file themselves, when they run"
            );
            return Err(Failure::usage(cause).remedy(format!("remove --keep-order or {option}")));
        }
        if let Some(dir) = &self.log {
            // The directory of this process changes.
            let absolute = cwd.and_then(|_| path::absolute(dir).ok());
            let logs = Logs::open(absolute.unwrap_or_else(|| dir.clone()))?;
            return Ok((Destination::Logged(logs), Route::Nowhere));
        }
        if let Some(path) = &self.append {
            let file = OpenOptions::new().append(true).create(true).open(path);
            let appended = file.and_then(Destination::appended).map_err(|error| {
                Failure::usage(format!("cannot append to {}: {error}", path.display()))
            })?;
            return Ok((appended, Route::Nowhere));
        }
        match (self.inherit, self.discard, self.format) {
        (true, _, Format::Jsonl) => Err(Failure::usage(
            "--inherit cannot be combined with --output jsonl: jobs would write between the records",
        )
        .remedy("remove --inherit: the records include the output of jobs")),
        (true, ..) => Ok((Destination::Inherited, Route::Nowhere)),
        (_, true, _) => Ok((Destination::Null, Route::Nowhere)),
        _ => Ok((Destination::Piped, route)),
    }
    }
}

/// What standard output shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// What the jobs write, by whole lines.
    Human,
    /// JSON lines: a record for each finished job, and for each line that a job writes.
    Jsonl,
}
