//! The options of `exitring run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::input::shard::Wanted;
use super::stopped::Stopped;
use super::supervisor::shutdown::Stop;
use crate::duration;

const DETAILS: &str = "\
Examples:
  exitring run -j 8 commands.txt                    one command a line, 8 at a time
  find . -name '*.png' -print0 | exitring run -0 -- optipng {}   one job for each name, whatever is in it
  exitring run -- ./train --seed {} --lr {2} ::: 1 2 3 ::: 0.1 0.01    every combination
  exitring run -j 64 --timeout 5m --retries 2 --joblog run.log --resume tests.txt
  exitring run --output jsonl commands.txt | jq -r 'select(.type == \"job\" and .success == false) | .command'
  srun -n 100 exitring run --joblog log.$SLURM_PROCID commands.txt    each task runs its share (docs/CLUSTER.md)

Lines: blank ones and ones that begin with # are passed over. A line that means nothing special to a shell (no quote,
no variable, no redirection and so on, no builtin) is executed directly, any other by `sh -c`. --shell has all of them
executed by a shell of your choice, --no-shell none. With -0 an item ends with a NUL and not with the line, and all of it counts:
blanks, # and empty items, too.

Line ends: a list of commands whose first line ends with CR and LF was written on Windows, and the CR is taken off each line (and a
byte order mark off the first). Arguments for a template are as they are, for names of files may end with CR: it is taken off only
if the list begins with a byte order mark, too. Use -0 for names that may contain line ends.

Templates: {} is the argument, {1} {2} those of the first and second :::, {#} the job's number; without any argument's place,
arguments are appended. Without ::: the arguments are lines of FILE or of standard input. No shell is involved. Whatever stands
after ::: is an argument, options too: they belong before --. Places and separators of GNU parallel and rush that mean nothing here
({.} {/} {//} {%} {-1} {= =} :::: :::+ and so on) are refused. A backslash before a place or a separator makes it text: \\{} \\{.} \\:::

Jobs: each is a process group of its own, with /dev/null as standard input. A job has ended when its process has, or 100 ms later
if that left something running that has its output open. A time-out or Ctrl-C sends SIGTERM and SIGCONT to the group. The whole group has the grace:
the job has ended, and its place is free, when its process has ended and nobody but zombies is left of the group, or when the
grace is over and they were sent SIGKILL. What left the group (setsid) is not reached. What a job that ends by itself leaves in
the background lives on, as with xargs and GNU parallel, and what it writes is passed on as long as exitring runs, after the record of
its job. When exitring ends, a small process of its own (exitring drain-pipes) reads the rest and drops it until the last
writer has ended; with --log, --append and --inherit nothing is dropped. Pipes are kept open for an eighth of ulimit -n (1024 at
most); beyond that the oldest is closed, which is said, and its writer gets SIGPIPE. So it does if exitring is killed with SIGKILL.
Jobs start with default dispositions of signals and none blocked, whatever exitring inherited; but where SIGHUP is ignored (nohup),
jobs ignore it, too. EXITRING_SHARD is none in their environment, so that `exitring run` in a job runs all of its own list; under an
srun in a job, give it --shard auto.

Stopped jobs: a job that is stopped, as one is that reads from or sets up the terminal (SIGTTIN, SIGTTOU), is reported within two
seconds, once, and waited for; --stopped fail ends it. With neither does a job get the terminal: Ctrl-C is exitring's. With -j 1
--stopped foreground gives it to a job that wants it, as for a password, while exitring is in the foreground itself, and
takes it back, with the modes (echo) it had, when the job has ended. Meanwhile no bar is drawn, and keys go to the job: if it
dies of Ctrl-C (SIGINT), Ctrl-\\ (SIGQUIT) or the terminal's hang-up (SIGHUP), exitring is interrupted, too, but not if it handles them;
Ctrl-Z stops the job and exitring, and `fg` has both go on.
A prompt that a job wrote to the terminal before it got that may be gone with the bar; -q shows none. One on its standard output or error
comes out with its line's end, and at once with --inherit. SIGUSR1 is refused.

Jobs that cannot be ended: one that runs as another user (sudo) may not be signalled. It is reported and waited for, with its
place taken. A second request to end leaves it running, a third one whatever else has not ended; both are recorded as
interrupted, with outcome unknown and the reason.

Interrupts: SIGINT (Ctrl-C), SIGTERM, SIGHUP, SIGXCPU, SIGPWR and SIGABRT are requests to end: running jobs get SIGTERM, and SIGKILL
after the grace. Those that come within a second after one are the same request, for terminals, wrappers and service managers
send several at a time. A second request, after that second, kills running jobs at once, and so does Ctrl-\\ (SIGQUIT) at any time.
A job that ends within the grace, however it does, counts as interrupted, and --resume runs it again. So does one that failed just
before: one that dies of such a signal (or of SIGKILL, or exits with 128 and its number) is recorded half a second later, in
case the signal was sent to all, as by systemd and scancel. SIGINT, SIGQUIT, SIGHUP and SIGTSTP are ignored where they were ignored
when exitring was started: in the background of a script SIGINT is, so use SIGTERM.
Ctrl-Z stops exitring and not its jobs, which have groups of their own; meanwhile nothing is started, and no time-out ends
anything. SIGUSR1 has one more job run at a time, SIGUSR2 one fewer, and never less than one. Any other signal that can be caught is reported and
ignored.

Output: lines of different jobs never mix. A line longer than 1 MiB is passed on as it comes, and the output of others waits in their
pipes for its end. If they wait for a minute, or for 10 s in which less than 64 KiB of it come, it gets a line end there, which
is said on standard error. With --output jsonl such a line is in several records, and all but the last have \"partial\":true. A last line
without an end gets one, except in the files of --log.
A job whose output is taken in costs 2 descriptors: `exitring doctor` tells for how many there are enough. With
fewer, fewer jobs run at a time. --log, --discard, --append and --inherit cost none.

Job log: a line of JSON for each finished job. With --resume, jobs that finished by themselves, well or not, are
done and not run again; interrupted ones, and ones that were running when exitring was killed, are not done. What failed in the
former run counts: the exit code is 1 even if all of the rest succeed. --resume-failed runs it again.

With --output jsonl there is a line {\"type\":\"job\", ...} for each finished job with job, command, attempts, outcome (exited,
signaled, unknown, not_started), exit_code, signal, reason, success, timed_out, interrupted, started_at, wall_seconds,
user_seconds, system_seconds, max_rss_bytes (never less than exitring's own, which a process has until its exec), and
{\"type\":\"output\", job, attempt, stream, line} for each line that a job writes. What is not UTF-8 becomes U+FFFD in line and command;
then line_base64 and command_base64, which are there only then, have the very bytes. A job that could not be started has the exit code
that a shell gives: 127 there is no such program, 126 it cannot be executed. Standard error says so, too, also with -q.
Other types and fields may be added.

Exit code: 0 all jobs succeeded; 1 some failed or could not be started; 2 the command line, the list or the job log is wrong or unreadable; 3 something
ran out (disk, descriptors, processes) and the run could not go on; 130 interrupted (SIGINT, SIGTERM, SIGHUP, SIGQUIT);
141 nobody reads the output any more.";

/// Run many commands, so many at a time, and tell how each ended
///
/// Commands come from FILE or standard input, one a line, and are started as they are read: the list may be
/// endless. Or from a template after `--`, and arguments.
#[derive(Debug, Args)]
#[command(after_long_help = DETAILS, after_help = "--help tells all, with examples.")]
pub(crate) struct Options {
    /// One command a line (with a template: one argument a line); `-` or none: standard input
    pub(crate) file: Option<PathBuf>,

    /// Items of the list end with a NUL byte and not with the line, as from find -print0; nothing is taken off them
    #[arg(short = '0', long, help_heading = "Lines")]
    pub(crate) null: bool,

    /// A program and its arguments, with places for what changes: `COMMAND {} ::: ARGUMENTS`
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,

    /// How many run at a time [default: one for each processor]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 22))]
    pub(crate) jobs: Option<u32>,

    /// End a job that takes longer, as in 90, 300ms, 1m30s: SIGTERM, after --grace SIGKILL
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive)]
    pub(crate) timeout: Option<Duration>,

    /// From SIGTERM to SIGKILL, at a time-out or an interrupt; the job's whole process group has it
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "5s")]
    pub(crate) grace: Duration,

    /// What is done about a job that is stopped, as one is that reads from the terminal
    #[arg(long, value_name = "HOW", value_enum, default_value = "report")]
    pub(crate) stopped: Stopped,

    /// Try a job that ran and failed again, up to so many times
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) retries: u32,

    /// Start nothing more after a job has failed; those that run go on (soon) or are ended (now)
    #[arg(long, value_name = "HOW", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "soon")]
    pub(crate) fail_fast: Option<Stop>,

    /// Run only part I of N of the list; none: all of it; auto: as the environment says (EXITRING_SHARD, which is like this
    /// option, Slurm, Kubernetes, CI) [default: auto]
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Wanted>,

    /// What is told on standard output
    #[arg(long, value_enum, default_value = "human", help_heading = "Output")]
    pub(crate) output: Output,

    /// Have each job write to DIR/NUMBER.out and DIR/NUMBER.err itself; a file that is empty at the job's end is removed, if nothing
    /// has it open any more (on a full disk jobs fail, which then ends the run)
    #[arg(long, value_name = "DIR", group = "streams", help_heading = "Output")]
    pub(crate) log: Option<PathBuf>,

    /// Have all jobs append to this one file; they do it themselves, at no cost to us (on a full disk they fail, which then ends the run)
    #[arg(long, value_name = "FILE", group = "streams", help_heading = "Output")]
    pub(crate) append: Option<PathBuf>,

    /// Let jobs write to our standard output and error themselves; lines may be torn
    #[arg(long, group = "streams", help_heading = "Output")]
    pub(crate) inherit: bool,

    /// Throw away what jobs write
    #[arg(long, group = "streams", help_heading = "Output")]
    pub(crate) discard: bool,

    /// No progress bar, and no summary (which goes to standard error); what goes wrong is said all the same
    #[arg(short, long, help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Write a record of each finished job to this file
    #[arg(long, value_name = "FILE", help_heading = "Job log")]
    pub(crate) joblog: Option<PathBuf>,

    /// Go on with the run that wrote the job log: what is done is not run again; exits with 1 if some of that failed
    #[arg(long, requires = "joblog", help_heading = "Job log")]
    pub(crate) resume: bool,

    /// As --resume, and run again what failed
    #[arg(long, requires = "joblog", help_heading = "Job log")]
    pub(crate) resume_failed: bool,

    /// Have every line executed by this shell
    #[arg(long, value_name = "PATH", conflicts_with_all = ["no_shell", "command"], help_heading = "Lines")]
    pub(crate) shell: Option<OsString>,

    /// Have no line executed by a shell: quotes are understood, nothing is expanded
    #[arg(long, conflicts_with = "command", help_heading = "Lines")]
    pub(crate) no_shell: bool,

    /// How many threads start jobs; each waits in every exec
    #[arg(long, value_name = "N", default_value_t = 4, hide = true, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) starters: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// What the jobs write, by whole lines
    Human,
    /// JSON lines: a record for each finished job, and for each line that a job writes
    Jsonl,
}
