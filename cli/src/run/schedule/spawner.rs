//! The threads that start jobs. Several, because each waits in every `exec`.

use std::error::Error;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use exitring::{Child, Exits, SpawnError, Watcher};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::failure::{Failure, chain};
use crate::run::job::{Job, Order};
use crate::run::output::logs::{self, Logs};
use crate::run::schedule::admission::Gate;
use crate::run::schedule::event_queue::{Inbox, News, NotStarted, Started, When};
use crate::run::schedule::shell::{self as line, Shell};
use crate::run::token::{Token, Whose};

/// While nothing of ours runs, another program may give back what ran out.
const ALONE_TRIES: u32 = 20;
const ALONE_PAUSE: Duration = Duration::from_millis(50);

/// Where jobs' standard output and error go.
pub(crate) enum Streams {
    /// Through pipes, to us.
    Piped,
    /// Where ours go.
    Inherited,
    /// Nowhere.
    Null,
    /// All to the end of this file.
    Appended(File),
    /// To two files for each.
    Logged(Logs),
}

impl Streams {
    /// A job has ended, or was not started. What it writes itself fails unheard by us on a full disk, so that is looked at.
    pub(crate) fn end(&self, job: u64, success: bool) -> Option<Failure> {
        match self {
            Self::Appended(file) if !success => appended_full(file),
            Self::Logged(logs) => {
                logs.end(job);
                logs.full(job)
            }
            _ => None,
        }
    }
}

/// Why a file that jobs append to takes no more.
fn appended_full(file: &File) -> Option<Failure> {
    let metadata = file.metadata().ok().filter(|metadata| metadata.is_file())?;
    let limit = getrlimit(Resource::Fsize).current;
    let error = match limit.is_some_and(|limit| metadata.len() >= limit) {
        true => io::ErrorKind::FileTooLarge,
        false if logs::is_full(rustix::fs::fstatvfs(file)) => io::ErrorKind::StorageFull,
        false => return None,
    };
    Some(Failure::writing("the file of --append", &error.into()))
}

/// What all who start jobs share.
pub(crate) struct Starter {
    pub(crate) gate: Arc<Gate>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) watcher: Watcher,
    pub(crate) exits: Exits,
    /// What the conductor waits with.
    pub(crate) poll: Arc<OwnedFd>,
    pub(crate) streams: Streams,
    pub(crate) shell: Shell,
    pub(crate) timeout: Option<Duration>,
    pub(crate) grace: Duration,
}

impl Starter {
    /// Starts jobs until there are no more.
    pub(crate) fn work(&self) {
        while let Some(job) = self.gate.enter() {
            let start = Start(&self.inbox);
            self.start(job);
            drop(start);
        }
    }

    fn start(&self, mut job: Job) {
        for tries in 0.. {
            let when = When::now();
            let why = match self.spawn(&job) {
                Ok(child) => return self.started(job, when, child),
                Err(Refused::Job(why)) => {
                    return self.inbox.tell(News::NotStarted { job, when, why });
                }
                Err(Refused::NoInterpreter(why)) => {
                    let why = NotStarted::not_executable(why);
                    return self.inbox.tell(News::NotStarted { job, when, why });
                }
                Err(Refused::Throttled(why)) => why,
                Err(Refused::Closed(failure)) => return stuck(&self.inbox, failure),
            };
            job = match self.gate.crowded(job) {
                // Somebody's turn later.
                Ok(room) => return self.inbox.tell(News::Crowded { room, why }),
                Err(_) if tries == ALONE_TRIES => return stuck(&self.inbox, none_can_start(&why)),
                Err(kept) => kept,
            };
            thread::sleep(ALONE_PAUSE);
        }
    }

    fn spawn(&self, job: &Job) -> Result<Child, Refused> {
        let command = match &job.order {
            Order::Line(line) => self
                .shell
                .command(line)
                .map_err(|why| Refused::Job(NotStarted::not_executable(why)))?,
            Order::Words(words) => line::words_command(words.iter().map(AsRef::as_ref)),
            Order::Broken(why, _) => {
                return Err(Refused::Job(NotStarted::not_executable(*why)));
            }
        };
        match (self.spawn_command(job, command), &job.order) {
            // A script without a first line that says by whom it is to be read: a shell reads it.
            (Err(Refused::NoInterpreter(_)), Order::Line(line)) => {
                self.spawn_command(job, line::by_shell("sh".as_ref(), line))
            }
            (spawned, _) => spawned,
        }
    }

    fn spawn_command(&self, job: &Job, mut command: Command) -> Result<Child, Refused> {
        // Its own group: signals reach what it starts, and Ctrl-C at a terminal does not reach it before us.
        command.process_group(0);
        // Standard input is /dev/null, as ours is.
        match &self.streams {
            Streams::Piped => command.stdout(Stdio::piped()).stderr(Stdio::piped()),
            Streams::Inherited => &mut command,
            Streams::Null => command.stdout(Stdio::null()).stderr(Stdio::null()),
            Streams::Appended(file) => command.stdout(share(file)?).stderr(share(file)?),
            Streams::Logged(logs) => {
                let [out, err] = logs.create(job.number, job.attempt).map_err(no_log)?;
                command.stdout(out).stderr(err)
            }
        };
        Ok(self.watcher.spawn(&mut command)?)
    }

    fn started(&self, job: Job, when: When, child: Child) {
        let pipes = [
            child.stdout.take().map(OwnedFd::from),
            child.stderr.take().map(OwnedFd::from),
        ];
        self.inbox.started(
            Started {
                job,
                when,
                child,
                pipes,
            },
            |started| self.subscribe(started),
        );
    }

    /// From here on the conductor is woken by what the job writes and by its end.
    fn subscribe(&self, started: &Started) -> Result<(), News> {
        let Started {
            job, child, pipes, ..
        } = started;
        let lost = |error: &dyn Error| News::Lost(Failure::resource(chain(error)));
        if let Some(timeout) = self.timeout {
            child
                .deadline(timeout, self.grace)
                .map_err(|error| lost(&error))?;
        }
        // There is as much room as may be inside.
        self.exits
            .add(child, job.number)
            .map_err(|error| lost(&error))?;
        for (whose, pipe) in Whose::both(job.number, job.attempt).into_iter().zip(pipes) {
            let Some(pipe) = pipe else { continue };
            let token = Token::Output(whose).data();
            // Without it, what the job writes is lost, and its end is not.
            epoll::add(&self.poll, pipe.as_fd(), token, epoll::EventFlags::IN).map_err(
                |error| {
                    let failure = Failure::resource(format!("cannot watch another pipe: {error}"));
                    News::Stuck(
                        failure.remedy(
                            "raise the sysctl fs.epoll.max_user_watches, or give a smaller -j",
                        ),
                    )
                },
            )?;
        }
        Ok(())
    }
}

/// Nothing can be started, and a job that had room for it gives that back.
fn stuck(inbox: &Inbox, failure: Failure) {
    inbox.tell(News::Stuck(failure));
    inbox.tell(News::PutDown);
}

fn none_can_start(why: &str) -> Failure {
    Failure::resource(format!("no job can be started: {why}"))
}

/// That a job is being started. If that panics, which would be a bug, the run must not wait for the job's end.
struct Start<'a>(&'a Inbox);

impl Drop for Start<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            stuck(self.0, none_can_start("a thread that starts jobs panicked"));
        }
    }
}

/// Why a job does not run.
enum Refused {
    /// By its own fault.
    Job(NotStarted),
    /// By its own fault, too: the kernel does not know how to execute the file.
    NoInterpreter(String),
    /// Something ran out that may come back.
    Throttled(String),
    /// Nothing will ever run.
    Closed(Failure),
}

impl From<SpawnError> for Refused {
    fn from(error: SpawnError) -> Self {
        let why = chain(&error);
        match error {
            error if error.is_throttling() => Self::Throttled(why),
            SpawnError::Refused(_) | SpawnError::Watch(_) => Self::Closed(none_can_start(&why)),
            SpawnError::NotExecutable { source, .. }
                if source.raw_os_error() == Some(libc::ENOEXEC) =>
            {
                Self::NoInterpreter(why)
            }
            // It is not the file that there is not.
            SpawnError::NotFound { program, .. } if is_path_of_file(&program) => {
                Self::Job(NotStarted::not_executable(format!(
                    "{program:?} is there; what is not is the interpreter that its first line names (#!), or its loader"
                )))
            }
            SpawnError::NotFound { .. } => Self::Job(NotStarted::not_found(why)),
            _ => Self::Job(NotStarted::not_executable(why)),
        }
    }
}

/// Whether it is a path, which is not searched for, and there is such a file.
fn is_path_of_file(program: &OsStr) -> bool {
    program.as_bytes().contains(&b'/') && Path::new(program).is_file()
}

fn no_log((path, error): (PathBuf, io::Error)) -> Refused {
    match Errno::from_io_error(&error) {
        Some(Errno::MFILE | Errno::NFILE) => {
            Refused::Throttled(format!("no descriptor for another job: {error}"))
        }
        _ => Refused::Closed(Failure::writing(
            &format!("the log {}", path.display()),
            &error,
        )),
    }
}

fn share(file: &File) -> Result<Stdio, Refused> {
    // Only a descriptor can be missing.
    let shared = file
        .try_clone()
        .map_err(|error| Refused::Throttled(format!("no descriptor for another job: {error}")));
    shared.map(Stdio::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_gives_the_room_back_and_is_told() {
        let inbox = Arc::new(Inbox::new().expect("an eventfd"));
        let theirs = Arc::clone(&inbox);
        let starter = thread::spawn(move || {
            let _start = Start(&theirs);
            panic!("on purpose");
        });
        starter.join().expect_err("it panicked");
        drop(Start(&inbox));
        let mut news = Vec::new();
        inbox.take(&mut news);
        assert!(matches!(news[..], [News::Stuck(_), News::PutDown]));
    }
}
