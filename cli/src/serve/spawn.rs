//! `spawn`: processes of the service's own.
//!
//! A process is written down before it runs. It is forked, opens its files, and waits at a gate until the commit; only then does
//! it become the program. If the service is killed before that, it ends at the gate: so a program runs if, and only if, there
//! is a watch of it, and nothing has to be searched for after a crash. What it does there is in `gate.rs`.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use exitring_protocol::{Code, Error, Moment, Spawn, Watched};
use rustix::fs::OFlags;
use rustix::process::getpid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::clock::{monotonic_ms, now_ms};
use super::gate::{GO, Gatekeeper, PROGRAM, Program, READY, WORD};
use super::live::{Birth, Live};
use super::process;
use super::service::{Service, Who, exhausted, stopping};
use super::subscription::Answering;
use super::watch::{check_tag, forget, panicked};

/// The variable that tells a process its watch.
pub(crate) const VARIABLE: &str = "EXITRING_SERVE_ID";

/// How long it may take to stand at its gate, and to become the program; each.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the answer waits for the end of what did not become the program.
const END_SOON: Duration = Duration::from_secs(1);

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const GRACE_MS: u64 = 5_000;

pub(crate) async fn spawn(
    service: &Arc<Service>,
    who: Who,
    client: String,
    spawn: Spawn,
    answering: &Answering,
) -> Result<Watched, Error> {
    service.store.check()?;
    check_tag(&spawn.tag)?;
    let place = service.registry.reserve(who.uid)?;
    let share = service.starting_of.of(who.uid);
    let _its = share.acquire().await.map_err(|_| panicked())?;
    let _turn = service.starting.acquire().await.map_err(|_| panicked())?;

    let (ours, theirs) = UnixStream::pair().map_err(exhausted)?;
    ours.set_nonblocking(true).map_err(exhausted)?;
    let mut gate = tokio::net::UnixStream::from_std(ours).map_err(exhausted)?;
    let command = command(service, who, &spawn, place.id, theirs)?;
    let program = spawn.argv[0].clone();
    let child = match service.spawner.start(command).await.ok_or_else(stopping)? {
        Ok(child) => child,
        Err(error) => return Err(cannot_start(&program, &error, None)),
    };
    if let Err(error) = at_gate(&mut gate, &program).await {
        put_an_end_to(child).await;
        return Err(error);
    }
    // Not reaped before we do it, so this is its number.
    let pid = child.id() as i32;
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
            began_ms: now_ms(),
            deadline_ms: spawn
                .timeout_ms
                .map(|ms| monotonic_ms().saturating_add(ms).min(i64::MAX as u64)),
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
            put_an_end_to(child).await;
            return Err(error);
        }
    };
    let id = birth.id;
    let live = Live::new(birth, true, false);
    place.fill(Arc::clone(&live));
    let _ = gate.write_all(&[GO]).await;
    if let Err(error) = past_gate(&mut gate, &program).await {
        // It was not the program for a moment.
        put_an_end_to(child).await;
        forget(service, id).await;
        return Err(error);
    }
    service.metrics.spawned.inc();
    service.deadlines.add(&live);
    answering.begin();
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

/// Waits until it stands at its gate.
async fn at_gate(gate: &mut tokio::net::UnixStream, program: &str) -> Result<(), Error> {
    match hear(gate).await {
        Ok(Some((READY, _))) => Ok(()),
        Ok(Some(why)) => Err(refusal(program, why)),
        Ok(None) => Err(Error::new(
            Code::CannotStart,
            format!("cannot start {program:?}: it was killed before it was the program"),
        )),
        Err(error) => Err(too_slow(program, &error)),
    }
}

/// Waits until it is the program: then its end of the gate is closed.
async fn past_gate(gate: &mut tokio::net::UnixStream, program: &str) -> Result<(), Error> {
    match hear(gate).await {
        // Or it was killed on the way, which its record tells.
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(refusal(program, why)),
        Err(error) => Err(too_slow(program, &error)),
    }
}

/// What it says; nothing when it has closed the gate.
async fn hear(
    gate: &mut tokio::net::UnixStream,
) -> Result<Option<(u8, i32)>, tokio::time::error::Elapsed> {
    let mut said = [0; WORD];
    let heard = tokio::time::timeout(PATIENCE, gate.read_exact(&mut said)).await?;
    let [word, number @ ..] = said;
    Ok(heard.ok().map(|_| (word, i32::from_ne_bytes(number))))
}

fn refusal(program: &str, (which, number): (u8, i32)) -> Error {
    let error = io::Error::from_raw_os_error(number);
    cannot_start(program, &error, (which != PROGRAM).then_some(which))
}

fn too_slow(program: &str, _: &tokio::time::error::Elapsed) -> Error {
    let message = format!(
        "cannot start {program:?}: it was not the program after {} seconds, and was killed; see whether its cwd, files and \
         program can be opened",
        PATIENCE.as_secs()
    );
    Error::new(Code::CannotStart, message)
}

/// Kills and reaps it. Who waits for a file system that does not answer cannot be killed yet, and is not waited for long.
async fn put_an_end_to(mut child: Child) {
    let reaped = tokio::spawn(async move {
        // It was not reaped, so it is no other process.
        let _ = child.kill();
        while let Ok(None) = child.try_wait() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let _ = tokio::time::timeout(END_SOON, reaped).await;
}

fn command(
    service: &Service,
    who: Who,
    spawn: &Spawn,
    id: u64,
    gate: UnixStream,
) -> Result<Command, Error> {
    let bad = |message: String| Error::new(Code::OutOfRange, message);
    let program = spawn
        .argv
        .first()
        .filter(|program| !program.is_empty())
        .ok_or_else(|| bad("argv is empty; its first is the program".into()))?;
    let text = |text: &[u8]| {
        CString::new(text).map_err(|_| {
            let message = "argv, env, cwd and files may not have zero bytes";
            Error::new(Code::CannotStart, message)
        })
    };
    let mut environment = Vec::new();
    let path = match &spawn.env {
        None => {
            environment.push(text(format!("PATH={PATH}").as_bytes())?);
            Some(PATH)
        }
        Some(env) => {
            for (name, value) in env {
                if name.is_empty() || name.contains('=') {
                    return Err(bad(format!(
                        "{name:?} is no name of an environment variable"
                    )));
                }
                if name != VARIABLE {
                    environment.push(text(format!("{name}={value}").as_bytes())?);
                }
            }
            env.get("PATH").map(String::as_str)
        }
    };
    environment.push(text(
        format!("{VARIABLE}={}:{id}", service.instance).as_bytes(),
    )?);
    // Where the program is looked for is not the service's own path.
    let paths = match (program.contains('/'), path) {
        (true, _) => vec![text(program.as_bytes())?],
        (false, Some(path)) => path
            .split(':')
            .map(|folder| text(Path::new(folder).join(program).as_os_str().as_bytes()))
            .collect::<Result<_, _>>()?,
        (false, None) => {
            return Err(bad(format!(
                "{program:?} has no slash, and env no PATH to look in"
            )));
        }
    };
    let arguments = spawn.argv.iter().map(|argument| text(argument.as_bytes()));
    let program = Program::new(paths, arguments.collect::<Result<_, _>>()?, environment);

    // What `std` executes never is: what it forks executes the program itself.
    let mut command = Command::new("/");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // A signal from a terminal is not for it, and its descendants are told to end with it.
    command.process_group(0);
    let reading = OFlags::RDONLY;
    let appending = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
    let file = |path: &Option<PathBuf>, flags| match path {
        None => Ok(None),
        Some(path) => CString::new(path.as_os_str().as_bytes())
            .map(|path| Some((path, flags)))
            .map_err(|_| bad(format!("{path:?} has a zero byte"))),
    };
    let cwd = spawn.cwd.as_deref().unwrap_or(Path::new("/"));
    let mut keeper = Gatekeeper {
        gate,
        service: getpid(),
        user: (service.uid == 0 && who.uid != 0).then_some(who),
        descriptors: service.descriptors,
        cwd: text(cwd.as_os_str().as_bytes())?,
        files: [
            file(&spawn.stdin, reading)?,
            file(&spawn.stdout, appending)?,
            file(&spawn.stderr, appending)?,
        ],
        program,
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
        Some(libc::ENXIO) if file.is_some() => (
            Code::CannotStart,
            "; a FIFO is not waited for: open it for reading before",
        ),
        Some(libc::E2BIG) => (Code::CannotStart, "; argv and env are too large"),
        _ => (Code::CannotStart, ""),
    };
    let message = match file {
        Some(file) => format!("cannot start {program:?}: opening its {file}: {error}{remedy}"),
        None => format!("cannot start {program:?}: {error}{remedy}"),
    };
    Error::new(code, message)
}
