//! `exitring run`: runs a list of commands, a bounded number at a time.
//!
//! ```text
//! reader ─► admission ─► spawners ──spawn──► watcher ─► exits ─► supervisor ─► record, output, summary
//!                            └─────► event queue ──────────────────▲ │
//!                                                 admission ◄────────┘ release
//! ```
//!
//! One thread reads the list, a few threads start jobs (each `exec` blocks its thread), and one
//! thread supervises. The admission bounds the jobs that wait to start, and its capacity bounds the
//! jobs that run. Nothing else grows with the list.
//!
//! The modules, from the bottom up. A module imports only modules above it in this list.
//!
//! - [`output_tail`], [`attempt`], [`claim`], [`command_spec`], [`job`], [`start_error`], [`stopped`], [`stream_id`], [`token`], [`signals`]: types that the
//!   modules share.
//! - [`jobserver`]: the number of jobs that programs of a build share.
//! - [`report`]: the record of a job, the job log, the summary and the progress bar.
//! - [`contain`]: cgroups of jobs, and their limits.
//! - [`output`]: what jobs write, from their pipes or log files to standard output.
//! - [`schedule`]: the queue of jobs that wait to start, and the threads that start them.
//! - [`input`]: the list of jobs, and the thread that reads it.
//! - [`watch`]: the full-screen view.
//! - [`supervisor`]: the thread that observes jobs until they end.
//! - [`dry_run`]: prints the commands in place of all that.
//! - [`job_environment`], [`setup`]: build the parts from the options.

pub(crate) mod attempt;
pub(crate) mod claim;
pub(crate) mod command_spec;
mod contain;
mod dry_run;
mod fault_signals;
pub(crate) mod input;
pub(crate) mod job;
mod job_environment;
mod jobserver;
mod options;
pub(crate) mod output;
pub(crate) mod output_tail;
pub(crate) mod report;
pub(crate) mod schedule;
mod setup;
pub(crate) mod signals;
mod start_error;
mod stopped;
mod stream_id;
mod supervisor;
mod test_options;
mod token;
mod watch;

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use rustix::event::epoll;

use self::input::reader::{ListCounts, Reader};
use self::input::selection::Selection;
use self::input::shard;
use self::input::source::Source;
use self::jobserver::role::Role;
pub(crate) use self::options::Options;
#[cfg(feature = "queue")]
pub(crate) use self::options::parse_max_args;
use self::output::drainer;
pub(crate) use self::output::drainer::drain;
use self::output::keep_order::KeepOrder;
use self::output::options::Format;
use self::output::output_tails::OutputTails;
use self::output::pipes::Pipes;
use self::output::std_streams::StdStreams;
use self::output::submitted_jobs::SubmittedJobs;
use self::output_tail::stream_max;
use self::report::durations::Durations;
use self::report::failed_jobs::FailedJobs;
use self::report::html::collector::RunEnd;
use self::report::joblog::JobLog;
use self::report::junit::JunitReport;
use self::report::progress::Progress;
use self::report::summary::Summary;
use self::schedule::admission::shared_limit::ReturnTokens;
use self::setup::{
    JOBS_MORE, build_observers, build_spawner, cannot, check_files, choose_foreground, choose_halt,
    choose_shard, choose_watch, existing_log, list_options, open_junit,
};
use self::signals::Signals;
use self::stopped::Stopped;
use self::supervisor::Supervisor;
use self::supervisor::grace_groups::GraceGroups;
use self::supervisor::job_checks::JobChecks;
use self::supervisor::pending_ends::PendingEnds;
#[cfg(feature = "queue")]
pub(crate) use self::supervisor::shutdown::REQUEST_WINDOW;
use self::supervisor::shutdown::Shutdown;
use self::supervisor::slow_jobs::SlowJobs;
use self::token::Token;
use crate::code;
use crate::diagnostics::say;
use crate::dispositions;
use crate::failure::Failure;
#[cfg(feature = "queue")]
use crate::queue::worker::{link::QueueLink, prepare::prepare};

/// Runs the jobs. Returns the exit code.
///
/// After Ctrl-C this process ends by SIGINT: a shell that executes a script or a loop goes on with
/// the next command if a program exits with a code, and would take the Ctrl-C for handled.
pub(crate) fn run(options: Options) -> Result<u8, Failure> {
    let (exit_code, request) = run_jobs(options)?;
    if request == Some(libc::SIGINT) {
        // Process 1 of a container survives it, and exits with the code.
        let _ = dispositions::raise_default(libc::SIGINT);
    }
    Ok(exit_code)
}

/// Runs the jobs. Returns the exit code, and the signal that interrupted the run.
fn run_jobs(mut options: Options) -> Result<(u8, Option<i32>), Failure> {
    // First: it must find the descriptors as they were inherited.
    let mut jobserver = Role::choose(&options, JOBS_MORE)?;
    let foreground = choose_foreground(&options)?;
    let stopped = match (options.stopped, &foreground) {
        (Stopped::Foreground, None) => Stopped::Report,
        (stopped, _) => stopped,
    };
    #[cfg(feature = "queue")]
    if options.queue.queue.is_some() && choose_halt(&options).is_some_and(|it| it.is_percentage()) {
        return Err(Failure::usage(
            "--halt: a percentage has no meaning with --queue, since the jobs of this worker are not known in advance",
        )
        .remedy("give a number of jobs of this worker, as in soon,fail=3"));
    }
    #[cfg(feature = "queue")]
    let prepared = prepare(&mut options)?;
    let shard = choose_shard(&options)?;
    let failed = match &options.tests.rerun_failed {
        Some(log) => Some(FailedJobs::read(log)?),
        None => None,
    };
    if failed.as_ref().is_some_and(FailedJobs::is_empty) {
        return Ok((setup::nothing_failed(&options)?, None));
    }
    let durations = match &options.tests.durations {
        Some(log) => Some(Durations::read(log)?),
        None => None,
    };
    shard::describe_to_jobs(shard);
    job_environment::set_variables(&options.env)?;
    if options.dry_run {
        let resume = match &options.joblog {
            Some(log) if options.resume || options.resume_failed => {
                JobLog::read(log, options.resume_failed)?
            }
            _ => None,
        };
        let source = Source::open(&list_options(&options))?;
        let selection = Selection {
            failed,
            durations,
            ..Selection::new(source, shard, resume)
        };
        let exit_code = dry_run::print(selection, options.output.format == Format::Jsonl)?;
        return Ok((exit_code, None));
    }
    check_files(&options)?;
    let watch = choose_watch(&options)?;
    let (destination, route) = options.output.open(options.cwd.as_deref())?;
    // Opening a FIFO blocks until it has a writer. Signals keep their default effect until then, so
    // Ctrl-C still ends the process.
    let source = Source::open(&list_options(&options))?;
    // The bar would overwrite what is being typed.
    let is_typed = source.reads_terminal();
    let signals = Signals::install().map_err(|error| cannot("install signal handlers", &error))?;
    let (joblog, resume) = match &options.joblog {
        Some(path) => {
            JobLog::open(path, existing_log(&options)).map(|(log, resume)| (Some(log), resume))?
        }
        None => (None, None),
    };
    let observers = build_observers(&options)?;

    let junit = open_junit(&options)?;
    if let Some(dir) = &options.cwd {
        if let Some(shell) = &mut options.shell {
            *shell = setup::absolute_program(shell);
        }
        job_environment::change_directory(dir)?;
    }
    let jobs = jobserver.jobs;
    let spawner = Arc::new(build_spawner(&options, jobs, destination)?);
    let waits_for = [
        (spawner.exits.as_fd(), Token::Exits),
        (spawner.event_queue.as_fd(), Token::Events),
        (signals.as_fd(), Token::Signal),
    ];
    for (what, token) in waits_for {
        let added = epoll::add(&spawner.poll, what, token.data(), epoll::EventFlags::IN);
        added.map_err(|error| cannot("wait with epoll", &error.into()))?;
    }

    let tokens = jobserver.take_tokens(&spawner.poll);
    let _return_tokens = tokens
        .map_err(|error| cannot("wait for the jobserver with epoll", &error))?
        .map(|tokens| {
            spawner.admission.use_tokens(tokens);
            ReturnTokens(Arc::clone(&spawner.admission))
        });
    for (index, trigger) in spawner.pressure_triggers.iter().enumerate() {
        let Some(trigger) = trigger else { continue };
        let data = Token::Pressure(index).data();
        if epoll::add(&spawner.poll, trigger, data, epoll::EventFlags::PRI).is_err() {
            spawner.admission.pressure_reported(index, false);
        }
    }

    let counts = Arc::new(ListCounts::default());
    let submitted = options
        .output
        .keep_order
        .then(Arc::<SubmittedJobs>::default);
    let mut std_streams = StdStreams::new(submitted.clone().map(KeepOrder::new));
    if watch.is_some() {
        let held = std_streams.hold();
        held.map_err(|error| cannot("create a temporary file for --watch", &error))?;
    }
    let reader = Reader {
        selection: Selection {
            failed,
            durations,
            submitted: submitted.clone(),
            ..Selection::new(source, shard, resume)
        },
        admission: Arc::clone(&spawner.admission),
        event_queue: Arc::clone(&spawner.event_queue),
        counts: Arc::clone(&counts),
    };
    // What submits jobs is started last. If a thread cannot be started, no job has been, which would be
    // lost with this process.
    let spawners = (0..usize::from(options.starters).min(jobs)).map(|_| {
        let spawner = Arc::clone(&spawner);
        start_thread("spawner", move || spawner.run())
    });
    let spawners = spawners.collect::<Result<Vec<_>, _>>()?;
    #[cfg(feature = "queue")]
    let (queue, reader) = match prepared {
        None => (None, Some(reader)),
        Some(prepared) => {
            let (admission, events) = (&spawner.admission, &spawner.event_queue);
            let link = QueueLink::start(prepared, Arc::clone(admission), Arc::clone(events))?;
            (Some(link), None)
        }
    };
    #[cfg(not(feature = "queue"))]
    let reader = Some(reader);
    if let Some(reader) = reader {
        // The thread is not joined: it may block on input that never arrives.
        start_thread("reader", move || reader.run())?;
    }

    #[cfg(feature = "queue")]
    let keeps_output = queue.is_some();
    #[cfg(not(feature = "queue"))]
    let keeps_output = false;
    let mut supervisor = Supervisor {
        signals,
        counts: Arc::clone(&counts),
        pipes: Pipes::new(
            Arc::clone(&spawner.poll),
            route,
            OutputTails::new(
                stream_max(junit.is_some(), keeps_output),
                options.report.is_some() || options.output.watch,
            ),
        ),
        #[cfg(feature = "queue")]
        queue,
        joblog,
        observers,
        junit,
        records: options.output.format == Format::Jsonl,
        fail_leaky: options.contain.fail_leaky,
        retries: options.retries,
        retry_delay: options.tests.retry_delay,
        fail_flaky: options.tests.fail_flaky,
        slow_jobs: options.tests.slow_after.map(SlowJobs::new),
        halt: choose_halt(&options),
        std_streams,
        progress: Progress::new(
            options.output.bar
                || !options.output.quiet
                    && !options.output.no_bar
                    && !options.output.watch
                    && !is_typed,
        ),
        watch,
        summary: Summary::new(),
        shutdown: Shutdown::new(options.grace),
        stopped,
        foreground,
        running: HashMap::new(),
        grace_groups: GraceGroups::default(),
        pending_ends: PendingEnds::default(),
        job_checks: JobChecks::new(stopped),
        draining: VecDeque::new(),
        more_output: false,
        capacity_reported: false,
        hold_reported: false,
        closed_pipes_reported: false,
        reported_signals: HashSet::new(),
        spawner,
    };
    let open_pipes = supervisor.supervise();
    if !supervisor.shutdown.is_abandoned() {
        for spawner in spawners {
            // The panic hook has already reported a panic.
            let _ = spawner.join();
        }
    }
    #[cfg(feature = "queue")]
    if let Some(queue) = supervisor.queue.take() {
        let shutdown = &supervisor.shutdown;
        // Jobs whose ends cannot be learned keep their leases.
        let limited = shutdown.is_interrupted() || shutdown.is_abandoned();
        let requested = shutdown.last_request();
        queue.close(
            &mut supervisor.signals,
            limited,
            requested,
            shutdown.grace(),
        );
    }
    let Supervisor {
        summary,
        mut shutdown,
        observers,
        junit,
        mut std_streams,
        mut signals,
        ..
    } = supervisor;
    let some_failed = summary.failed() + counts.failed_before() > 0;
    if !options.output.quiet {
        let text = summary.render(counts.done_before(), counts.failed_before());
        std_streams.report_last(&text, &mut signals, shutdown.is_interrupted());
    }
    if let Some(Err(failure)) = junit.map(JunitReport::finish) {
        // Whatever failed before: the file is missing.
        say(&failure.to_lines());
        let _ = shutdown.fail(failure);
    }
    let mut exit_code = shutdown.exit_code(some_failed);
    if let Some(observers) = observers {
        let (failures, complete) = observers.finish(RunEnd {
            exit_code,
            done_before: counts.done_before(),
            failed_before: counts.failed_before(),
        });
        for failure in failures {
            failure.report();
        }
        // The result of the jobs comes first.
        if exit_code == code::OK && !complete {
            exit_code = code::RESOURCE;
        }
    }
    if let Err(error) = drainer::start(open_pipes) {
        say(&format!(
            "background processes of ended jobs get SIGPIPE when they write: the process that \
             reads their pipes cannot be started: {error}\n"
        ));
    }
    if let Some(pool) = &supervisor.spawner.cgroups
        && !shutdown.is_abandoned()
    {
        contain::pool::wait_until_empty(pool);
    }
    Ok((exit_code, shutdown.interrupted_by()))
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
