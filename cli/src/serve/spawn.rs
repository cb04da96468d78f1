//! `spawn`: processes of the service's own.
//!
//! A process is written down before it runs. It is forked, tells its pid, and waits at a gate until the commit; only then does
//! it become the program. If the service is killed before that, it ends at the gate: so a program runs if, and only if, there
//! is a watch of it, and nothing has to be searched for after a crash. What waits at a gate notices by its parent's number that
//! the service is gone, not by the gate's end, of which others forked meanwhile have copies.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use exitring_protocol::{Code, Error, Moment, Spawn, Watched};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Resource, Rlimit, getpid, getppid, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::live::{Birth, Live, now_ms};
use super::process;
use super::service::{Service, Who, exhausted};
use super::watch::{check_tag, forget, panicked};

/// The variable that tells a process its watch.
pub(crate) const VARIABLE: &str = "EXITRING_SERVE_ID";

/// How a process ends that was not let through its gate.
const SHUT_OUT: i32 = 125;
/// How often what waits at its gate looks whether the service lives.
const LOOK_EVERY_NS: i64 = 50_000_000;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const GRACE_MS: u64 = 5_000;
const GO: u8 = 1;
const STAY: u8 = 0;

pub(crate) async fn spawn(
    service: &Arc<Service>,
    who: Who,
    client: String,
    spawn: Spawn,
) -> Result<Watched, Error> {
    service.store.check()?;
    check_tag(&spawn.tag)?;
    let place = service.registry.reserve(who.uid)?;
    let _turn = service.starting.acquire().await.map_err(|_| panicked())?;

    let (ours, theirs) = UnixStream::pair().map_err(exhausted)?;
    ours.set_nonblocking(true).map_err(exhausted)?;
    let mut gate = tokio::net::UnixStream::from_std(ours).map_err(exhausted)?;
    let mut command = command(service, who, &spawn, place.id, theirs)?;
    let program = spawn.argv[0].clone();
    let started = tokio::task::spawn_blocking(move || {
        let started = command.spawn();
        // Closes our copy of its end of the gate.
        drop(command);
        started
    });

    let mut pid = [0; 4];
    let mut told = 0;
    while told < pid.len() {
        match gate.read(&mut pid[told..]).await {
            Ok(count) if count > 0 => told += count,
            // It did not come so far.
            _ => {
                let file = (told == 1).then_some(pid[0]);
                let error = match started.await.map_err(|_| panicked())? {
                    Err(error) => cannot_start(&program, &error, file),
                    Ok(_) => panicked(),
                };
                return Err(error);
            }
        }
    }
    let pid = i32::from_ne_bytes(pid);
    let now = now_ms();
    let birth = process::pidfd_open(pid).map_err(exhausted).map(|pidfd| {
        let birth = Birth {
            id: place.id,
            uid: who.uid,
            client,
            tag: spawn.tag,
            pid,
            // It waits, so it is there.
            start_ticks: process::stat(pid).map_or(0, |stat| stat.start_ticks),
            inode: process::inode(&pidfd),
            spawned: true,
            until: Moment::Exited,
            began_ms: now,
            deadline_ms: spawn
                .timeout_ms
                .map(|ms| now.saturating_add(ms).min(i64::MAX as u64)),
            grace_ms: spawn.grace_ms.unwrap_or(GRACE_MS).min(i64::MAX as u64),
        };
        (birth, pidfd)
    });
    let written_down = match birth {
        Ok((birth, pidfd)) => {
            let begun = service.store.begin(birth.clone()).await;
            begun.map(|()| (birth, pidfd))
        }
        Err(error) => Err(error),
    };
    let (birth, pidfd) = match written_down {
        Ok(begun) => begun,
        Err(error) => {
            let _ = gate.write_all(&[STAY]).await;
            // Reaps it.
            let _ = started.await;
            return Err(error);
        }
    };
    let id = birth.id;
    let live = Live::new(birth, true, false);
    place.fill(Arc::clone(&live));
    let _ = gate.write_all(&[GO]).await;
    match started.await {
        Ok(Ok(_child)) => {}
        Ok(Err(error)) => {
            // It was not the program for a moment, and is reaped.
            forget(service, id).await;
            return Err(cannot_start(&program, &error, None));
        }
        Err(_) => return Err(panicked()),
    }
    service.metrics.spawned.inc();
    service.deadlines.add(&live);
    // It runs, so it has to be watched: what could run out for that may be had a little later.
    let mut pidfd = Some(pidfd);
    loop {
        let fd = match pidfd.take() {
            Some(fd) => Ok(fd),
            None => process::pidfd_open(pid).map_err(exhausted),
        };
        let armed = match fd {
            Ok(fd) => {
                let (service, live) = (Arc::clone(service), Arc::clone(&live));
                let arm = tokio::task::spawn_blocking(move || service.arm(&live, fd));
                arm.await.map_err(|_| panicked())?
            }
            Err(error) => Err(error),
        };
        match armed {
            Ok(()) => return Ok(Watched { watch: id, pid }),
            // It is written down, and the next start of the service finds it.
            Err(error) if error.code == Code::Stopping => return Err(error),
            Err(error) => tracing::warn!(watch = id, %error, "watching a child is tried again"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// What is done between fork and exec. Every call of it is async-signal-safe, and nothing allocates.
struct Gatekeeper {
    gate: UnixStream,
    service: Pid,
    descriptors: Rlimit,
    files: [Option<(CString, OFlags)>; 3],
}

impl Gatekeeper {
    fn pass(&mut self) -> io::Result<()> {
        for (number, file) in self.files.iter().enumerate() {
            if let Some((path, flags)) = file
                && let Err(error) = open_as(path, *flags, number)
            {
                // Which of them, so that the message can tell.
                let _ = self.gate.write(&[number as u8]);
                return Err(error);
            }
        }
        self.gate
            .write_all(&getpid().as_raw_nonzero().get().to_ne_bytes())?;
        loop {
            let mut waits = [PollFd::new(&self.gate, PollFlags::IN)];
            let patience = Timespec {
                tv_sec: 0,
                tv_nsec: LOOK_EVERY_NS,
            };
            let ready = poll(&mut waits, Some(&patience)).unwrap_or(0);
            let mut word = [STAY];
            if ready > 0 {
                match self.gate.read(&mut word) {
                    Ok(1) if word == [GO] => break,
                    // Told to stay out, which the service hears of, if it lives.
                    _ if getppid() == Some(self.service) => {
                        return Err(io::Error::from_raw_os_error(libc::ECANCELED));
                    }
                    _ => {}
                }
            }
            if getppid() != Some(self.service) {
                // SAFETY: ends this forked child, which has nothing to clean up.
                unsafe { libc::_exit(SHUT_OUT) };
            }
        }
        // The service has raised it for itself.
        setrlimit(Resource::Nofile, self.descriptors)?;
        Ok(())
    }
}

/// Opens a file as a standard stream. The user is the client's by now, so is what may be opened.
fn open_as(path: &CString, flags: OFlags, number: usize) -> io::Result<()> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = rustix::fs::open(path.as_c_str(), flags, Mode::from_raw_mode(0o666))?;
    match number {
        0 => rustix::stdio::dup2_stdin(&file)?,
        1 => rustix::stdio::dup2_stdout(&file)?,
        _ => rustix::stdio::dup2_stderr(&file)?,
    }
    Ok(())
}

fn command(
    service: &Service,
    who: Who,
    spawn: &Spawn,
    id: u64,
    gate: UnixStream,
) -> Result<Command, Error> {
    let bad = |message: String| Error::new(Code::OutOfRange, message);
    let (program, arguments) = spawn
        .argv
        .split_first()
        .filter(|(program, _)| !program.is_empty())
        .ok_or_else(|| bad("argv is empty; its first is the program".into()))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    match &spawn.env {
        None => _ = command.env("PATH", PATH),
        Some(env) => {
            if let Some(name) = env
                .keys()
                .find(|name| name.is_empty() || name.contains('='))
            {
                return Err(bad(format!(
                    "{name:?} is no name of an environment variable"
                )));
            }
            command.envs(env);
            // Where the program is looked for is not the service's own path.
            if !env.contains_key("PATH") && !program.contains('/') {
                return Err(bad(format!(
                    "{program:?} has no slash, and env no PATH to look in"
                )));
            }
        }
    }
    command.env(VARIABLE, format!("{}:{id}", service.instance));
    command.current_dir(spawn.cwd.as_deref().unwrap_or(Path::new("/")));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // A signal from a terminal is not for it, and its descendants are told to end with it.
    command.process_group(0);
    if service.uid == 0 && who.uid != 0 {
        // Its supplementary groups are dropped by the same.
        command.uid(who.uid).gid(who.gid);
    }
    let reading = OFlags::RDONLY;
    let appending = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
    let file = |path: &Option<std::path::PathBuf>, flags| match path {
        None => Ok(None),
        Some(path) => CString::new(path.as_os_str().as_bytes())
            .map(|path| Some((path, flags)))
            .map_err(|_| bad(format!("{path:?} has a zero byte"))),
    };
    let mut keeper = Gatekeeper {
        gate,
        service: getpid(),
        descriptors: service.descriptors,
        files: [
            file(&spawn.stdin, reading)?,
            file(&spawn.stdout, appending)?,
            file(&spawn.stderr, appending)?,
        ],
    };
    // SAFETY: `pass` only makes system calls, on what was made before the fork.
    unsafe { command.pre_exec(move || keeper.pass()) };
    Ok(command)
}

/// Why it was not started.
fn cannot_start(program: &str, error: &io::Error, file: Option<u8>) -> Error {
    let file = file.and_then(|which| ["stdin", "stdout", "stderr"].get(usize::from(which)));
    let (code, remedy) = match error.raw_os_error() {
        Some(libc::EAGAIN) => (
            Code::Exhausted,
            "; see RLIMIT_NPROC, the cgroup's pids.max and kernel.pid_max",
        ),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => (Code::Exhausted, ""),
        Some(libc::ENOENT) if file.is_none() => {
            (Code::CannotStart, "; check its path, PATH, and cwd")
        }
        Some(libc::E2BIG) => (Code::CannotStart, "; argv and env are too large"),
        _ => (Code::CannotStart, ""),
    };
    let message = match file {
        Some(file) => format!("cannot start {program:?}: opening its {file}: {error}{remedy}"),
        None => format!("cannot start {program:?}: {error}{remedy}"),
    };
    Error::new(code, message)
}
