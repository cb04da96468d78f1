//! Builds the parts of a run from its options.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use exitring::{Environment, Watcher};
use rustix::event::epoll;
use rustix::io::Errno;

use super::contain;
use super::input::list_files;
use super::input::shard::{Shard, Wanted};
use super::input::source::{ListOptions, Repeat};
use super::options::Options;
use super::output::destination::Destination;
use super::report::file_clash::{self, NamedFile};
use super::report::html::collector::RunEnd;
use super::report::html::page_file::PageFile;
use super::report::joblog::{ExistingLog, JobLog};
use super::report::junit::JunitReport;
use super::report::observers::Observers;
use super::report::trace::Trace;
use super::schedule::admission::Admission;
use super::schedule::event_queue::EventQueue;
use super::schedule::job_limit::JobLimit;
use super::schedule::shell::Shell;
use super::schedule::spawner::Spawner;
use super::stopped::Stopped;
use super::supervisor::foreground::Foreground;
use super::supervisor::halt::{Halt, HaltRule};
use super::supervisor::shutdown::Stop;
use super::watch::display::Display;
use crate::code;
use crate::diagnostics::say;
use crate::failure::{Failure, chain};

/// How far SIGUSR1 can raise the number of jobs above -j.
pub(super) const JOBS_MORE: usize = 1024;

pub(super) fn choose_shard(options: &Options) -> Result<Shard, Failure> {
    let wanted = match options.shard {
        Some(wanted) => wanted,
        // A queue has the whole list.
        #[cfg(feature = "queue")]
        None if options.queue.queue.is_some() => Wanted::Part(Shard::WHOLE),
        None => Wanted::from_environment()?,
    };
    match wanted {
        Wanted::Part(shard) => Ok(shard),
        Wanted::Auto => {
            let (shard, launcher) = Shard::from_environment()?;
            if let Some(launcher) = launcher {
                say(&format!(
                    "running shard {shard} of the list, selected by {launcher}; --shard none runs the whole list\n"
                ));
            }
            Ok(shard)
        }
    }
}

pub(super) fn list_options(options: &Options) -> ListOptions {
    ListOptions {
        file: list_file(options),
        end: match options.null {
            true => Some(0),
            false => options.delimiter,
        },
        template: options.command.clone(),
        max_args: options.max_args.map(|max| max as usize),
        tag: match options.output.tag {
            true => Some("{}".into()),
            false => options.output.tagstring.clone(),
        },
        stdin: options.stdin.clone(),
        names: options.tests.junit.is_some(),
        repeat: match (options.tests.repeat, options.tests.until_fail) {
            (Some(times), _) => Repeat::Times(times),
            (None, false) => Repeat::Once,
            // Without an end all that can be shown is the list.
            (None, true) if options.dry_run => Repeat::Once,
            (None, true) => Repeat::WithoutEnd,
        },
    }
}

/// The list. It is empty for the jobs of a queue, which do not come from a list.
fn list_file(options: &Options) -> Option<PathBuf> {
    #[cfg(feature = "queue")]
    if options.queue.queue.is_some() {
        return Some("/dev/null".into());
    }
    options.file.clone()
}

/// Begins the report of `--junit`. Its suite has the name of the list, or is the template.
pub(super) fn open_junit(options: &Options) -> Result<Option<JunitReport>, Failure> {
    let Some(path) = &options.tests.junit else {
        return Ok(None);
    };
    let words = options.command.iter();
    let words: Vec<_> = words
        .map(|word| word.as_bytes())
        .take_while(|word| !word.starts_with(b":::"))
        .collect();
    let suite = match (&options.file, words.is_empty()) {
        (_, false) => words.join(&b' '),
        (Some(file), true) => file.as_os_str().as_bytes().to_vec(),
        (None, true) => b"-".to_vec(),
    };
    JunitReport::create(path, &suite).map(Some)
}

/// Ends a run of `--rerun-failed` that has no jobs: the files of the run are written, and
/// have no jobs. The list is not read. Returns the exit code.
pub(super) fn nothing_failed(options: &Options) -> Result<u8, Failure> {
    if let Some(log) = &options.tests.rerun_failed {
        let log = log.display();
        say(&format!(
            "no job failed in {log}: there is nothing to run again\n"
        ));
    }
    if options.dry_run {
        return Ok(code::OK);
    }
    // A CI service expects the reports.
    check_files(options)?;
    if let Some(log) = &options.joblog {
        JobLog::open(log, existing_log(options))?;
    }
    let observers = build_observers(options)?;
    if let Some(junit) = open_junit(options)? {
        junit.finish()?;
    }
    let complete = observers.is_none_or(|observers| {
        let (failures, complete) = observers.finish(RunEnd {
            exit_code: code::OK,
            done_before: 0,
            failed_before: 0,
        });
        for failure in failures {
            failure.report();
        }
        complete
    });
    Ok(if complete { code::OK } else { code::RESOURCE })
}

/// Opens the terminal for jobs, if the options ask for it and there is one.
pub(super) fn choose_foreground(options: &Options) -> Result<Option<Foreground>, Failure> {
    if options.stopped != Stopped::Foreground {
        return Ok(None);
    }
    if options.jobs.map(JobLimit::get) != Some(1) {
        return Err(Failure::usage(
            "--stopped foreground needs -j 1: only one job at a time can have the terminal",
        )
        .remedy("add -j 1, or use --stopped report"));
    }
    match Foreground::open() {
        Ok(foreground) => Ok(Some(foreground)),
        Err(error) => {
            say(&format!(
                "no controlling terminal for jobs (/dev/tty: {error}): stopped jobs are only reported\n"
            ));
            Ok(None)
        }
    }
}

/// The rule that ends the run early.
pub(super) fn choose_halt(options: &Options) -> Option<Halt> {
    match options.halt {
        Some(HaltRule(halt)) => halt,
        None => {
            let until_fail = options.tests.until_fail.then_some(Stop::Soon);
            options.fail_fast.or(until_fail).map(Halt::fail_fast)
        }
    }
}

/// Refuses files that the run would write and use for something else. Changes nothing.
pub(super) fn check_files(options: &Options) -> Result<(), Failure> {
    let reports = [
        ("--report", &options.report),
        ("--trace", &options.trace),
        ("--junit", &options.tests.junit),
    ];
    let lists: Vec<_> = options
        .file
        .as_deref()
        .into_iter()
        .chain(list_files(&options.command))
        .map(|path| NamedFile {
            name: "the list",
            path,
        })
        .collect();
    // It may be a template, which is seldom the name of a file. It is opened in that directory.
    let stdin = options.stdin.as_ref().map(|path| match &options.cwd {
        Some(dir) => dir.join(path),
        None => path.into(),
    });
    let joblog = ("--joblog", &options.joblog);
    let append = ("--append", &options.output.append);
    let others = [
        ("--stdin", &stdin),
        joblog,
        append,
        ("--durations", &options.tests.durations),
        ("--rerun-failed", &options.tests.rerun_failed),
    ];
    let log_dir = options.output.log.as_deref();
    let others = [named_files(&others), lists.clone()].concat();
    file_clash::check(&named_files(&reports), &others, log_dir)?;
    // An earlier job log may be read and continued, and the streams may be appended to a file, too.
    for file in named_files(&[joblog, append]) {
        let read = [named_files(&[joblog, ("--stdin", &stdin)]), lists.clone()].concat();
        file_clash::check_others(&file, &read)?;
    }
    for file in [named_files(&[joblog]), lists].concat() {
        if let Some(dir) = log_dir {
            file_clash::check_no_log(&file, dir)?;
        }
    }
    Ok(())
}

fn named_files<'a>(files: &[(&'a str, &'a Option<PathBuf>)]) -> Vec<NamedFile<'a>> {
    let named = |&(name, path): &(&'a str, &'a Option<PathBuf>)| {
        let path = path.as_deref()?;
        Some(NamedFile { name, path })
    };
    files.iter().filter_map(named).collect()
}

/// Opens the files that the options ask for.
pub(super) fn build_observers(options: &Options) -> Result<Option<Box<Observers>>, Failure> {
    // This changes nothing yet.
    let page = options.report.as_deref().map(PageFile::check).transpose()?;
    let trace = options.trace.as_ref();
    let trace = trace.map(|path| Trace::create(path, options.timeout));
    Ok(Observers::new(trace.transpose()?, page))
}

/// The view of `--watch`.
pub(super) fn choose_watch(options: &Options) -> Result<Option<Box<Display>>, Failure> {
    if !options.output.watch {
        return Ok(None);
    }
    if options.stopped == Stopped::Foreground {
        let cause = "--watch cannot be combined with --stopped foreground: both need the terminal";
        return Err(Failure::usage(cause).remedy("remove one of them"));
    }
    Ok(Some(Box::new(Display::new()?)))
}

pub(super) fn existing_log(options: &Options) -> ExistingLog {
    match (options.resume_failed, options.resume) {
        (true, _) => ExistingLog::ResumeFailed,
        (_, true) => ExistingLog::Resume,
        _ => ExistingLog::Refuse,
    }
}

/// A program that is named by a path, from any directory. A name without a slash stays one.
pub(super) fn absolute_program(program: &OsStr) -> OsString {
    match program.as_bytes().contains(&b'/') {
        true => std::path::absolute(program).map_or_else(|_| program.into(), Into::into),
        false => program.into(),
    }
}

pub(super) fn build_spawner(
    options: &Options,
    jobs: usize,
    destination: Destination,
) -> Result<Spawner, Failure> {
    let no_watcher = |error: exitring::BuildError| {
        Failure::resource(format!("cannot build the watcher: {}", chain(&error)))
            .remedy("`exitring doctor` shows what this machine allows")
    };
    // The run uses no callbacks, so the watcher needs no workers.
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
    let (conditions, pressure_triggers) = options.admission.open()?;
    let cgroups = contain::pool::open(&options.contain, jobs, jobs + JOBS_MORE)?;
    let admission = Admission::new(jobs, jobs + JOBS_MORE, options.delay);
    Ok(Spawner {
        admission: Arc::new(admission.with_conditions(conditions)),
        event_queue: Arc::new(
            EventQueue::new().map_err(|error| cannot("create an eventfd", &error))?,
        ),
        exits: watcher.exits(jobs + JOBS_MORE).map_err(no_watcher)?,
        watcher,
        poll: Arc::new(
            epoll::create(epoll::CreateFlags::CLOEXEC)
                .map_err(|error| cannot("create an epoll instance", &error.into()))?,
        ),
        destination,
        shell,
        environment: Environment::current(),
        timeout: options.timeout,
        grace: options.grace,
        pressure_triggers,
        cgroups,
    })
}

pub(super) fn cannot(what: &str, error: &io::Error) -> Failure {
    let failure = Failure::resource(format!("cannot {what}: {error}"));
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => failure
            .remedy("raise ulimit -n (RLIMIT_NOFILE); `exitring doctor` shows how many are needed"),
        Some(Errno::NFILE) => failure.remedy("raise the sysctl fs.file-max"),
        _ => failure,
    }
}
