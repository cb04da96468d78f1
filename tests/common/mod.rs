//! What the tests share: children that end on command, and ways to wait for things.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use exitring::{Pid, Stats, Watcher};

/// Long past anything that should happen; a test that waits so long has failed.
pub const FOREVER: Duration = Duration::from_secs(30);

/// A child that reads a line and exits with the code in it. Killed and reaped if dropped alive.
pub struct Obedient(Child);

impl Obedient {
    pub fn spawn() -> Self {
        let child = Command::new("sh")
            .args(["-c", "read code; exit $code"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh starts");
        Self(child)
    }

    pub fn pid(&self) -> Pid {
        Pid::try_from(self.0.id()).expect("a child has a pid")
    }

    /// Has it exit with this code.
    pub fn exit(&mut self, code: i32) {
        let mut stdin = self.0.stdin.take().expect("told once");
        writeln!(stdin, "{code}").expect("it reads");
    }

    pub fn kill(&mut self) {
        self.0.kill().expect("it is ours");
    }

    /// Reaps it; only then is it known that nobody else did.
    pub fn reap(mut self) -> ExitStatus {
        drop(self.0.stdin.take());
        self.0.wait().expect("it is ours to reap")
    }
}

impl Drop for Obedient {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A child that has ended and is a zombie.
pub fn zombie(code: i32) -> Obedient {
    let mut child = Obedient::spawn();
    child.exit(code);
    until("the child is a zombie", || is_zombie(child.pid()));
    child
}

pub fn is_zombie(pid: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z"))
    })
}

/// Waits until something holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < FOREVER, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until the statistics say so.
#[track_caller]
pub fn until_stats(watcher: &Watcher, what: &str, holds: impl Fn(&Stats) -> bool) -> Stats {
    let mut stats = watcher.stats();
    until(what, || {
        stats = watcher.stats();
        holds(&stats)
    });
    stats
}

#[track_caller]
pub fn receive<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(FOREVER).expect("it comes in time")
}

pub fn exited(code: i32) -> ExitStatus {
    ExitStatus::from_raw(code << 8)
}

/// Both ways of running callbacks, and several workers.
pub fn each_worker_count(test: impl Fn(Watcher)) {
    for workers in [0, 1, 3] {
        test(
            Watcher::builder()
                .workers(workers)
                .build()
                .expect("a watcher can be built"),
        );
    }
}

/// How many descriptors this process has open.
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("proc is mounted")
        .count()
        - 1
}

/// Runs one test of this very test binary in a process of its own, where it finds itself
/// [`alone`], and says whether it passed. For what a whole process has to be changed for.
#[track_caller]
pub fn run_alone(test: &str, prepare: impl FnOnce(&mut Command)) {
    let mut command = Command::new(std::env::current_exe().expect("we run"));
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .stdin(Stdio::null());
    prepare(&mut command);
    let output = command.output().expect("it starts");
    assert!(
        output.status.success(),
        "{test} alone: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // A misspelt name would run no test, successfully.
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{test} was not run"
    );
}

/// Set where [`run_alone`] has a test run in a process of its own.
pub const ALONE: &str = "EXITRING_TEST_ALONE";

pub fn alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Has the command run with 64 descriptors, and no way to more.
pub fn lower_descriptor_limit(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: setrlimit is a bare system call.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit {
                rlim_cur: 64,
                rlim_max: 64,
            };
            match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

/// Children that all exit when it is opened: forked, so that there can be thousands.
pub struct Gate {
    reader: std::io::PipeReader,
    writer: std::io::PipeWriter,
}

impl Gate {
    pub fn new() -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe can be had");
        Self { reader, writer }
    }

    /// Forks a child that exits with this code once the gate is open.
    pub fn fork(&self, code: i32) -> Pid {
        use std::os::fd::AsRawFd;
        // SAFETY: the child makes system calls only, on descriptors that are open.
        let pid = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::close(self.writer.as_raw_fd());
                let mut byte = 0_u8;
                libc::read(self.reader.as_raw_fd(), (&raw mut byte).cast(), 1);
                libc::_exit(code);
            }
            pid
        };
        Pid::new(pid).expect("fork works")
    }

    pub fn open(self) {}
}

/// For what a test may expect; the library finds out by trying.
pub fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("proc is mounted");
    let mut numbers = release.split(['.', '-']).map(|part| part.trim().parse());
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next()) >= (major, minor)
}

/// Reaps a child, which is ours to reap and has exited by itself. Returns its exit code.
pub fn reap(pid: Pid) -> i32 {
    let mut status = 0;
    // SAFETY: a live integer.
    let reaped = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, 0) };
    assert_eq!(reaped, pid.as_raw());
    assert!(libc::WIFEXITED(status), "{status:x}");
    libc::WEXITSTATUS(status)
}

/// How many descriptors this process may have at most.
pub fn descriptor_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a pointer to a live structure.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    assert_eq!(result, 0);
    limit.rlim_max
}
