//! The service's end of the start gate.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use exitring_protocol::{Code, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::error::Elapsed;

use super::messages::{READY, RELEASE, REPORT_BYTES, Step};

/// How long a child may take to reach its start gate, and then to execute its program; each.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The start gate of one child.
pub(super) struct StartGate(tokio::net::UnixStream);

impl StartGate {
    /// Creates a start gate. Also returns the child's end.
    pub(super) fn new() -> io::Result<(Self, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((Self(tokio::net::UnixStream::from_std(ours)?), theirs))
    }

    /// Waits until the child is at its start gate. `program`: for messages.
    pub(super) async fn wait_ready(&mut self, program: &str) -> Result<(), Error> {
        match self.report().await {
            Ok(Some((READY, _))) => Ok(()),
            Ok(Some(report)) => Err(refusal(program, report)),
            Ok(None) => Err(Error::new(
                Code::CannotStart,
                format!("cannot start {program:?}: the process was killed before it executed it"),
            )),
            Err(error) => Err(too_slow(program, &error)),
        }
    }

    /// Lets the child execute its program.
    pub(super) async fn release(&mut self) {
        let _ = self.0.write_all(&[RELEASE]).await;
    }

    /// Waits until the child has executed its program: the exec closes its end of the gate.
    pub(super) async fn wait_executed(&mut self, program: &str) -> Result<(), Error> {
        match self.report().await {
            // Or it was killed before, which its record reports.
            Ok(None) => Ok(()),
            Ok(Some(report)) => Err(refusal(program, report)),
            Err(error) => Err(too_slow(program, &error)),
        }
    }

    /// The next message of the child. `None` if it has closed its end.
    async fn report(&mut self) -> Result<Option<(u8, i32)>, Elapsed> {
        let mut message = [0; REPORT_BYTES];
        let read = tokio::time::timeout(TIMEOUT, self.0.read_exact(&mut message)).await?;
        let [step, number @ ..] = message;
        Ok(read.ok().map(|_| (step, i32::from_ne_bytes(number))))
    }
}

fn refusal(program: &str, (step, number): (u8, i32)) -> Error {
    let error = io::Error::from_raw_os_error(number);
    cannot_start(program, &error, Step::of(step))
}

fn too_slow(program: &str, _: &Elapsed) -> Error {
    let message = format!(
        "cannot start {program:?}: the process did not execute it within {} seconds, and was killed; check that its cwd, \
         files and program can be opened",
        TIMEOUT.as_secs()
    );
    Error::new(Code::CannotStart, message)
}

/// The refusal of a process that was not started, by the step that failed.
pub(super) fn cannot_start(program: &str, error: &io::Error, step: Step) -> Error {
    let errno = error.raw_os_error().unwrap_or(0);
    let (code, remedy) = match (step, errno) {
        (Step::Limit(_), libc::EPERM) => (
            Code::Denied,
            "; the service needs CAP_SYS_RESOURCE to raise a hard limit, and nofile is limited by fs.nr_open",
        ),
        (Step::Nice, libc::EPERM | libc::EACCES) => {
            (Code::Denied, "; the service needs CAP_SYS_NICE to lower it")
        }
        (_, libc::EAGAIN) => (
            Code::Exhausted,
            "; see RLIMIT_NPROC, the cgroup's pids.max and kernel.pid_max",
        ),
        (_, libc::EMFILE | libc::ENFILE | libc::ENOMEM) => (Code::Exhausted, ""),
        (Step::Program, libc::ENOENT) => (Code::CannotStart, "; check its path, PATH, and cwd"),
        (Step::File(_), libc::ENXIO) => (
            Code::CannotStart,
            "; the FIFO has no reader: open it for reading first",
        ),
        (_, libc::E2BIG) => (
            Code::CannotStart,
            "; argv and env are too large, also for the limit stack",
        ),
        _ => (Code::CannotStart, ""),
    };
    let doing = match step {
        Step::File(number) => {
            let name = ["stdin", "stdout", "stderr"].get(usize::from(number));
            format!("opening its {}: ", name.unwrap_or(&"file"))
        }
        Step::Nice => "setting its nice value: ".into(),
        Step::Limit(resource) => format!("setting its limit {resource}: "),
        Step::Program => String::new(),
    };
    let message = format!("cannot start {program:?}: {doing}{error}{remedy}");
    Error::new(code, message)
}
