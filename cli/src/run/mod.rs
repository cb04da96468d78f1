//! `exitring run`: many commands, so many at a time.
//!
//! ```text
//! reader ─► gate ─► starters ──spawn──► watcher ─► exits ─► conductor ─► record, output, summary
//!                      └────────► inbox ─────────────────────▲ │
//!                                                    gate ◄────┘ leave
//! ```
//!
//! One thread reads the list, a few start jobs (each `exec` blocks one), one conducts. Jobs that wait are bounded by the
//! gate, jobs that run by its room; nothing else grows with the list.

mod fault_signals;
mod input;
mod job;
mod options;
mod output;
mod report;
mod schedule;
mod signals;
mod supervisor;
mod token;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use exitring::Watcher;
use rustix::event::epoll;
use rustix::io::Errno;

use crate::diagnostics::say;
use crate::failure::{Failure, chain};
use crate::run::input::reader::{Counts, Reader};
use crate::run::input::shard::{Shard, Wanted};
use crate::run::input::source::Source;
pub(crate) use crate::run::options::Options;
use crate::run::options::Output;
use crate::run::output::drainer;
pub(crate) use crate::run::output::drainer::drain;
use crate::run::output::job_stream::Route;
use crate::run::output::logs::Logs;
use crate::run::output::pipes::Pipes;
use crate::run::output::std_streams::Outlet;
use crate::run::report::joblog::{Former, JobLog};
use crate::run::report::progress::Progress;
use crate::run::report::summary::Summary;
use crate::run::schedule::admission::Gate;
use crate::run::schedule::event_queue::Inbox;
use crate::run::schedule::shell::Shell;
use crate::run::schedule::spawner::{Starter, Streams};
use crate::run::signals::Signals;
use crate::run::supervisor::Conductor;
use crate::run::supervisor::foreground::Foreground;
use crate::run::supervisor::grace_groups::Groups;
use crate::run::supervisor::job_checks::{Looks, Stopped};
use crate::run::supervisor::pending_ends::HeldJobs;
use crate::run::supervisor::shutdown::Ending;
use crate::run::token::Token;

/// By so many more than -j says SIGUSR1 may have run at a time.
const JOBS_MORE: usize = 1024;

/// Runs the jobs. Returns the exit code.
pub(crate) fn run(options: Options) -> Result<u8, Failure> {
    let foreground = choose_foreground(&options)?;
    let stopped = match (options.stopped, &foreground) {
        (Stopped::Foreground, None) => Stopped::Report,
        (stopped, _) => stopped,
    };
    let shard = choose_shard(&options)?;
    input::shard::keep_from_jobs();
    let (streams, route) = choose_output(&options)?;
    // Opening may wait (for who writes to a FIFO), and until then Ctrl-C ends us as it ends anybody.
    let source = Source::open(
        options.file.as_deref(),
        options.null,
        options.command.clone(),
    )?;
    let signals = Signals::take().map_err(|error| cannot("take signals", &error))?;
    let (joblog, resume) = match &options.joblog {
        Some(path) => {
            JobLog::open(path, former(&options)).map(|(log, resume)| (Some(log), resume))?
        }
        None => (None, None),
    };

    let jobs = options.jobs.map_or_else(
        || thread::available_parallelism().map_or(1, usize::from),
        |jobs| jobs as usize,
    );
    let starter = Arc::new(make_starter(&options, jobs, streams)?);
    let waits_for = [
        (starter.exits.as_fd(), Token::Exits),
        (starter.inbox.as_fd(), Token::Bell),
        (signals.as_fd(), Token::Signal),
    ];
    for (what, token) in waits_for {
        let added = epoll::add(&starter.poll, what, token.data(), epoll::EventFlags::IN);
        added.map_err(|error| cannot("wait with epoll", &error.into()))?;
    }

    let counts = Arc::new(Counts::default());
    let reader = Reader {
        source,
        shard,
        resume,
        gate: Arc::clone(&starter.gate),
        inbox: Arc::clone(&starter.inbox),
        counts: Arc::clone(&counts),
    };
    // Not joined: it may be waiting for a line that never comes.
    start_thread("reader", move || reader.work())?;
    let starters = (0..usize::from(options.starters).min(jobs)).map(|_| {
        let starter = Arc::clone(&starter);
        start_thread("starter", move || starter.work())
    });
    let starters = starters.collect::<Result<Vec<_>, _>>()?;

    let mut conductor = Conductor {
        signals,
        counts: Arc::clone(&counts),
        pipes: Pipes::new(Arc::clone(&starter.poll), route),
        joblog,
        records: options.output == Output::Jsonl,
        retries: options.retries,
        fail_fast: options.fail_fast,
        outlet: Outlet::new(),
        progress: Progress::new(!options.quiet),
        summary: Summary::new(),
        ending: Ending::new(options.grace),
        stopped,
        foreground,
        running: HashMap::new(),
        groups: Groups::default(),
        held: HeldJobs::default(),
        looks: Looks::new(stopped),
        lingering: VecDeque::new(),
        crowded_said: false,
        closed_said: false,
        unknown_signals: HashSet::new(),
        starter,
    };
    let open_pipes = conductor.conduct();
    if !conductor.ending.is_abrupt() {
        for starter in starters {
            // A panic was shown by the panic hook.
            let _ = starter.join();
        }
    }
    let Conductor {
        summary,
        ending,
        mut outlet,
        mut signals,
        ..
    } = conductor;
    let some_failed = summary.failed() + counts.failed_before() > 0;
    if !options.quiet {
        let text = summary.show(counts.done_before(), counts.failed_before());
        outlet.say_last(&text, &mut signals, ending.is_interrupted());
    }
    if let Err(error) = drainer::start(open_pipes) {
        say(&format!(
            "what jobs left in the background gets SIGPIPE when it writes, as no process can be started that reads it: {error}\n"
        ));
    }
    Ok(ending.code(some_failed))
}

fn choose_shard(options: &Options) -> Result<Shard, Failure> {
    let wanted = match options.shard {
        Some(wanted) => wanted,
        None => Wanted::from_environment()?,
    };
    match wanted {
        Wanted::Part(shard) => Ok(shard),
        Wanted::Auto => {
            let (shard, who) = Shard::from_environment()?;
            if let Some(who) = who {
                say(&format!(
                    "running part {shard} of the list, as {who} says; --shard none runs all\n"
                ));
            }
            Ok(shard)
        }
    }
}

/// The terminal for jobs, if they are to have it and there is one.
fn choose_foreground(options: &Options) -> Result<Option<Foreground>, Failure> {
    if options.stopped != Stopped::Foreground {
        return Ok(None);
    }
    if options.jobs != Some(1) {
        return Err(Failure::usage(
            "--stopped foreground is for one job at a time, as one at a time can have the terminal",
        )
        .remedy("give -j 1, too, or --stopped report"));
    }
    match Foreground::open() {
        Ok(foreground) => Ok(Some(foreground)),
        Err(error) => {
            say(&format!(
                "there is no controlling terminal that a job could have (/dev/tty: {error}): stopped jobs are only reported\n"
            ));
            Ok(None)
        }
    }
}

fn choose_output(options: &Options) -> Result<(Streams, Route), Failure> {
    let route = match options.output {
        Output::Human => Route::Lines,
        Output::Jsonl => Route::Records,
    };
    if let Some(dir) = &options.log {
        return Ok((Streams::Logged(Logs::open(dir.clone())?), Route::Nowhere));
    }
    if let Some(path) = &options.append {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.map_err(|error| {
            Failure::usage(format!("cannot append to {}: {error}", path.display()))
        })?;
        return Ok((Streams::Appended(file), Route::Nowhere));
    }
    match (options.inherit, options.discard, options.output) {
        (true, _, Output::Jsonl) => Err(Failure::usage(
            "--inherit would have jobs write between the records of --output jsonl",
        )
        .remedy("leave out --inherit: what jobs write is in records, too")),
        (true, ..) => Ok((Streams::Inherited, Route::Nowhere)),
        (_, true, _) => Ok((Streams::Null, Route::Nowhere)),
        _ => Ok((Streams::Piped, route)),
    }
}

fn former(options: &Options) -> Former {
    match (options.resume_failed, options.resume) {
        (true, _) => Former::KeepSuccesses,
        (_, true) => Former::Keep,
        _ => Former::Refuse,
    }
}

fn make_starter(options: &Options, jobs: usize, streams: Streams) -> Result<Starter, Failure> {
    let no_watcher = |error: exitring::BuildError| {
        Failure::resource(format!("no watcher can be built: {}", chain(&error)))
            .remedy("`exitring doctor` tells what this machine allows")
    };
    // No callbacks, so no workers.
    let watcher = Watcher::builder()
        .workers(0)
        .max_watches((jobs + JOBS_MORE).max(1 << 20))
        .build()
        .map_err(no_watcher)?;
    let shell = match (&options.shell, options.no_shell) {
        (Some(shell), _) => Shell::Always(shell.clone()),
        (None, true) => Shell::Never,
        (None, false) => Shell::Auto,
    };
    Ok(Starter {
        gate: Arc::new(Gate::new(jobs, jobs + JOBS_MORE)),
        inbox: Arc::new(Inbox::new().map_err(|error| cannot("make an eventfd", &error))?),
        exits: watcher.exits(jobs + JOBS_MORE).map_err(no_watcher)?,
        watcher,
        poll: Arc::new(
            epoll::create(epoll::CreateFlags::CLOEXEC)
                .map_err(|error| cannot("make an epoll", &error.into()))?,
        ),
        streams,
        shell,
        timeout: options.timeout,
        grace: options.grace,
    })
}

fn start_thread(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<thread::JoinHandle<()>, Failure> {
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread.map_err(|error| {
        cannot("start a thread", &error)
            .remedy("RLIMIT_NPROC or the cgroup's pids.max may be reached")
    })
}

fn cannot(what: &str, error: &io::Error) -> Failure {
    let failure = Failure::resource(format!("cannot {what}: {error}"));
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => failure
            .remedy("raise ulimit -n (RLIMIT_NOFILE); `exitring doctor` tells how many it takes"),
        Some(Errno::NFILE) => failure.remedy("raise the sysctl fs.file-max"),
        _ => failure,
    }
}
