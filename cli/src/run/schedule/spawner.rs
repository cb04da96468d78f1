//! The threads that start jobs.
//!
//! There are several, because each blocks in every `exec`.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use exitring::{CgroupPool, Child, Command, Environment, Exits, SpawnError, Stdio, Watcher};
use rustix::event::epoll;
use rustix::io::Errno;

use super::admission::Admission;
use super::environment;
use super::event_queue::{Event, EventQueue, StartedJob};
use super::job_stdin;
use super::shell::{self, Shell};
use crate::failure::{Failure, chain};
use crate::run::command_spec::{self, CommandSpec};
use crate::run::job::{Job, StartTime};
use crate::run::output::destination::Destination;
use crate::run::output::pipes::cannot_watch;
use crate::run::start_error::StartError;
use crate::run::stream_id::StreamId;
use crate::run::token::Token;

/// How often a start is retried while no other job of this run is active: another program may free
/// the missing resource.
const RETRIES_MAX: u32 = 20;
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// State that the spawner threads share.
pub(crate) struct Spawner {
    pub(crate) admission: Arc<Admission>,
    pub(crate) event_queue: Arc<EventQueue>,
    pub(crate) watcher: Watcher,
    pub(crate) exits: Exits,
    /// The epoll of the supervisor.
    pub(crate) poll: Arc<OwnedFd>,
    pub(crate) destination: Destination,
    pub(crate) shell: Shell,
    /// What the jobs inherit, copied once.
    pub(crate) environment: Environment,
    pub(crate) timeout: Option<Duration>,
    pub(crate) grace: Duration,
    /// Files by which the kernel reports pressure; `None` where it cannot.
    pub(crate) pressure_triggers: Vec<Option<File>>,
    /// Jobs have cgroups of this pool. Dropped last, when no job holds one.
    pub(crate) cgroups: Option<CgroupPool>,
}

impl Spawner {
    /// Starts jobs until there are no more.
    pub(crate) fn run(&self) {
        while let Some(job) = self.admission.acquire() {
            let guard = StartGuard(&self.event_queue);
            self.start(job);
            drop(guard);
        }
    }

    fn start(&self, mut job: Job) {
        for tries in 0.. {
            let start_time = StartTime::now();
            let reason = match self.spawn(&job) {
                Ok(child) => return self.started(job, start_time, child),
                Err(StartFailure::Job(error)) => {
                    return self.event_queue.push(Event::NotStarted {
                        job: job.into(),
                        start_time,
                        error,
                    });
                }
                Err(StartFailure::NoInterpreter(reason)) => {
                    let error = StartError::not_executable(reason);
                    return self.event_queue.push(Event::NotStarted {
                        job: job.into(),
                        start_time,
                        error,
                    });
                }
                Err(StartFailure::Throttled(reason)) => reason,
                Err(StartFailure::Fatal(failure)) => return give_up(&self.event_queue, failure),
            };
            #[cfg(feature = "queue")]
            let put_back = match job
                .details
                .as_ref()
                .and_then(|details| details.lease.as_ref())
            {
                // Another machine may have the resource.
                Some(lease) => {
                    lease.delay();
                    self.admission.drop_active(job)
                }
                None => self.admission.requeue(job),
            };
            #[cfg(not(feature = "queue"))]
            let put_back = self.admission.requeue(job);
            job = match put_back {
                // The job starts again after another one has ended.
                Ok(capacity) => {
                    return self
                        .event_queue
                        .push(Event::CapacityReduced { capacity, reason });
                }
                Err(_) if tries == RETRIES_MAX => {
                    return give_up(&self.event_queue, cannot_start_any(&reason));
                }
                Err(kept) => kept,
            };
            thread::sleep(RETRY_PAUSE);
        }
    }

    fn spawn(&self, job: &Job) -> Result<Child, StartFailure> {
        let command = match &job.command {
            CommandSpec::Line(line) => self
                .shell
                .command(line)
                .map_err(|reason| StartFailure::Job(StartError::not_executable(reason)))?,
            CommandSpec::Argv(words) => shell::argv_command(words.iter().map(AsRef::as_ref)),
            CommandSpec::SlottedArgv(words) => {
                let words = command_spec::with_slot(words, job.slot);
                shell::argv_command(words.iter().map(AsRef::as_ref))
            }
            CommandSpec::Invalid(reason, _) => {
                return Err(StartFailure::Job(StartError::not_executable(*reason)));
            }
        };
        match (self.spawn_command(job, command), &job.command) {
            // A script without a `#!` line: a shell executes it, if no option chooses otherwise.
            (Err(StartFailure::NoInterpreter(_)), CommandSpec::Line(line))
                if matches!(self.shell, Shell::Auto) =>
            {
                self.spawn_command(job, shell::shell_command("sh".as_ref(), line))
            }
            (spawned, _) => spawned,
        }
    }

    fn spawn_command(&self, job: &Job, mut command: Command) -> Result<Child, StartFailure> {
        // A process group of its own: signals reach all that the job starts, and Ctrl-C at a
        // terminal reaches exitring and not the job.
        command.process_group(0).environment(&self.environment);
        environment::describe_job(&mut command, job);
        if let Some(pool) = &self.cgroups {
            command.cgroup(pool);
        }
        // Standard input is /dev/null, inherited from this process, but with --stdin.
        if let Some(stdin) = job_stdin::open(job).map_err(stdin_failure)? {
            command.stdin(stdin);
        }
        match &self.destination {
            Destination::Piped => command.stdout(Stdio::piped()).stderr(Stdio::piped()),
            Destination::Inherited => &mut command,
            Destination::Null => command.stdout(Stdio::null()).stderr(Stdio::null()),
            Destination::Appended(_, file) => command.stdout(file.clone()).stderr(file.clone()),
            Destination::Logged(logs) => {
                let [out, err] = logs.create(job.number, job.attempt).map_err(log_failure)?;
                command.stdout(out).stderr(err)
            }
        };
        Ok(self.watcher.spawn(&mut command)?)
    }

    fn started(&self, job: Job, start_time: StartTime, child: Child) {
        let pipes = [
            child.stdout.take().map(OwnedFd::from),
            child.stderr.take().map(OwnedFd::from),
        ];
        for pipe in pipes.iter().flatten() {
            // The flag belongs to the parent's end. The job has other open files of the same pipe,
            // which stay blocking. Only a descriptor that is not open is refused.
            let _ = rustix::io::ioctl_fionbio(pipe, true);
        }
        self.event_queue.push_started(
            StartedJob {
                job,
                start_time,
                child,
                pipes,
            },
            |started| self.subscribe(started),
        );
    }

    /// Registers the job. From here on its output and its end wake up the supervisor.
    fn subscribe(&self, started: &StartedJob) -> Result<(), Event> {
        let StartedJob {
            job, child, pipes, ..
        } = started;
        let lost = |error: &dyn Error| Event::WatcherFailed(Failure::resource(chain(error)));
        if let Some(timeout) = self.timeout {
            child
                .deadline(timeout, self.grace)
                .map_err(|error| lost(&error))?;
        }
        // It has capacity for as many children as can be active.
        self.exits
            .add(child, job.number)
            .map_err(|error| lost(&error))?;
        for (stream_id, pipe) in StreamId::both(job.number, job.attempt)
            .into_iter()
            .zip(pipes)
        {
            let Some(pipe) = pipe else { continue };
            let token = Token::Output(stream_id).data();
            // On an error output of the job is lost, so the run ends it. Its end is still reported.
            epoll::add(&self.poll, pipe.as_fd(), token, epoll::EventFlags::IN)
                .map_err(|error| Event::CannotReadPipes(cannot_watch(error)))?;
        }
        Ok(())
    }
}

/// Reports that no job can be started, and gives back the permit of this job.
fn give_up(event_queue: &EventQueue, failure: Failure) {
    event_queue.push(Event::CannotContinue(failure));
    event_queue.push(Event::StartDropped);
}

fn cannot_start_any(reason: &str) -> Failure {
    Failure::resource(format!("no job can be started: {reason}"))
}

/// Covers the start of a job. If that panics, which would be a bug, the run must not wait for the
/// job's end.
struct StartGuard<'a>(&'a EventQueue);

impl Drop for StartGuard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            give_up(
                self.0,
                cannot_start_any("a thread that starts jobs panicked"),
            );
        }
    }
}

/// Why a job was not started.
enum StartFailure {
    /// The command is wrong.
    Job(StartError),
    /// The command is wrong: the kernel does not know the file's format.
    NoInterpreter(String),
    /// A resource ran out, and may become available again.
    Throttled(String),
    /// No job can be started any more.
    Fatal(Failure),
}

impl From<SpawnError> for StartFailure {
    fn from(error: SpawnError) -> Self {
        let reason = chain(&error);
        match error {
            error if error.is_throttling() => Self::Throttled(reason),
            SpawnError::Refused(_) | SpawnError::Watch(_) | SpawnError::Cgroup(_) => {
                Self::Fatal(cannot_start_any(&reason))
            }
            SpawnError::NotExecutable { source, .. }
                if source.raw_os_error() == Some(libc::ENOEXEC) =>
            {
                Self::NoInterpreter(reason)
            }
            SpawnError::NotFound { program, .. } if program.as_bytes().contains(&b' ') => {
                Self::Job(StartError::not_found(format!(
                    "{reason}; a template is not executed by a shell, except as in: sh -c 'COMMAND {{}}'"
                )))
            }
            SpawnError::NotFound { .. } => Self::Job(StartError::not_found(reason)),
            _ => Self::Job(StartError::not_executable(reason)),
        }
    }
}

fn stdin_failure((name, error): (OsString, io::Error)) -> StartFailure {
    match Errno::from_io_error(&error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
            StartFailure::Throttled(format!("no standard input for another job: {error}"))
        }
        _ => StartFailure::Job(StartError::no_stdin(format!(
            "cannot read {}: {error}",
            name.display()
        ))),
    }
}
fn log_failure((path, error): (PathBuf, io::Error)) -> StartFailure {
    match Errno::from_io_error(&error) {
        Some(Errno::MFILE | Errno::NFILE) => {
            StartFailure::Throttled(format!("no descriptor for another job: {error}"))
        }
        _ => StartFailure::Fatal(Failure::writing(
            &format!("the log {}", path.display()),
            &error,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_returns_the_permit_and_is_reported() {
        let event_queue = Arc::new(EventQueue::new().expect("an eventfd"));
        let thread_queue = Arc::clone(&event_queue);
        let spawner = thread::spawn(move || {
            let _guard = StartGuard(&thread_queue);
            panic!("on purpose");
        });
        spawner.join().expect_err("it panicked");
        drop(StartGuard(&event_queue));
        let mut events = Vec::new();
        event_queue.take(&mut events);
        assert!(matches!(
            events[..],
            [Event::CannotContinue(_), Event::StartDropped]
        ));
    }
}
