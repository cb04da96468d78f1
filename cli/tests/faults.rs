//! System calls that fail, by strace.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{EXITRING, Started, gone, jobs, mark, numbers, wait_until};

/// The calls that wait for events.
const WAITS: &str = "epoll_wait,epoll_pwait,epoll_pwait2";

/// `exitring run` with this list, in which strace lets system calls fail; `None` where strace cannot
/// be used. strace counts the calls of each thread.
fn with_fault(dir: &Path, mark: &str, fault: &str, words: &[&str], list: &str) -> Option<Command> {
    let strace = |fault: &str| {
        let mut command = Command::new("strace");
        let (call, _) = fault.split_once(':').unwrap();
        command
            .args(["-f", "-qq", "-o", "strace"])
            .args([
                "-e",
                &format!("trace={call}"),
                "-e",
                &format!("inject={fault}"),
            ])
            .current_dir(dir)
            .stdin(Stdio::null());
        command
    };
    let tried = strace("getppid:error=EPERM").arg("true").output();
    if !tried.is_ok_and(|output| output.status.success()) {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI needs strace: apt-get install strace"
        );
        println!("not run: strace is not installed, or not permitted");
        return None;
    }
    fs::write(dir.join("list"), list).unwrap();
    let mut command = strace(fault);
    // If the test kills strace, that ends the run. The mark is that of jobs only.
    command
        .args(["setpriv", "--pdeathsig", "KILL", EXITRING, "run"])
        .args(words)
        .args(["--env", mark, "--joblog", "log", "list"])
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("err")).unwrap());
    Some(command)
}

/// Kills what is left of jobs.
fn kill_marked(mark: &str) {
    wait_until("the end of all descendants", || {
        let left = common::processes_marked(mark);
        for &pid in &left {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        left.is_empty()
    });
}

fn errors(dir: &Path) -> String {
    fs::read_to_string(dir.join("err")).unwrap()
}

#[test]
fn no_job_starts_if_a_thread_cannot_be_started() {
    let mut refused = 0;
    // glibc starts threads with clone3, musl with clone. The first thread is that of the watcher.
    for nth in 2..10 {
        let dir = tempfile::tempdir().unwrap();
        // The delay lets threads that were started before do their work.
        let fault = format!("clone,clone3:error=EAGAIN:delay_enter=200000:when={nth}");
        let list = "touch ran; sleep 1000\n".repeat(4);
        let mark = mark(&format!("thread{nth}"));
        let Some(mut command) = with_fault(dir.path(), &mark, &fault, &["-j4"], &list) else {
            return;
        };
        let mut run = Started::new(&mut command);
        let ran = || dir.path().join("ran").exists();
        wait_until("a job or the end", || {
            ran() || run.0.try_wait().unwrap().is_some()
        });
        // The next thread may be refused.
        std::thread::sleep(std::time::Duration::from_millis(500));
        if errors(dir.path()).contains("cannot start a thread") {
            refused += 1;
            assert!(!ran(), "{nth}");
            assert_eq!(run.code(), Some(3));
        }
        drop(run);
        kill_marked(&mark);
    }
    assert!(refused > 1, "{refused}");
}

#[test]
fn a_job_whose_pipes_cannot_be_watched_does_not_block_the_run() {
    let dir = tempfile::tempdir().unwrap();
    // The thread that starts jobs adds two pipes for each.
    let fault = "epoll_ctl:error=ENOSPC:when=21+";
    let list = "true\n".repeat(10) + "head -c 100000 /dev/zero; sleep 1000\n";
    let mark = mark("pipes");
    let Some(mut command) = with_fault(dir.path(), &mark, fault, &["-j1"], &list) else {
        return;
    };
    let mut run = Started::new(&mut command);
    assert_eq!(run.code(), Some(3));
    gone(&mark);
    let errors = errors(dir.path());
    assert!(errors.contains("cannot watch another pipe"), "{errors}");
    let log = jobs(&fs::read_to_string(dir.path().join("log")).unwrap());
    assert!(log[..10].iter().all(|job| job["success"] == true));
    assert_eq!((log.len(), &log[10]["interrupted"]), (11, &true.into()));
}

#[test]
fn jobs_are_recorded_if_their_ends_cannot_be_learned() {
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("ends");
    let fault = format!("{WAITS}:error=EBADF:when=5");
    let list = "echo $$ >> pids; exec sleep 1000\n".repeat(3);
    let Some(mut command) = with_fault(dir.path(), &mark, &fault, &["-j2"], &list) else {
        return;
    };
    let mut run = Started::new(&mut command);
    wait_until("the end of the run", || {
        errors(dir.path()).contains("2 interrupted")
    });
    let pids = numbers(&dir.path().join("pids"));
    // strace waits for what the run has left.
    kill_marked(&mark);
    assert_eq!(run.code(), Some(3));
    assert_eq!(pids.len(), 2);
    let log = jobs(&fs::read_to_string(dir.path().join("log")).unwrap());
    let mut logged: Vec<_> = log
        .iter()
        .map(|job| {
            assert_eq!(job["interrupted"], true);
            let reason = job["reason"].as_str().unwrap();
            let pid = reason.strip_prefix("left running as process ").unwrap();
            pid.split(':').next().unwrap().parse::<u64>().unwrap()
        })
        .collect();
    logged.sort_unstable();
    assert_eq!(logged, pids);
}

#[test]
fn output_comes_before_the_record_of_a_job_that_is_left_running() {
    let list = "echo written; exec sleep 1000\n";
    // The first call fails after a delay, in which the job writes. On a slow machine it has not
    // begun by then, and gets more time.
    let ordered = (0..5_u32).any(|exponent| {
        let dir = tempfile::tempdir().unwrap();
        let mark = mark(&format!("order{exponent}"));
        let micros = 1_000_000 << exponent;
        let fault = format!("{WAITS}:error=EBADF:delay_enter={micros}:when=1");
        let words = ["--output", "jsonl"];
        let Some(mut command) = with_fault(dir.path(), &mark, &fault, &words, list) else {
            return true;
        };
        let out = dir.path().join("out");
        let mut run = Started::new(command.stdout(fs::File::create(&out).unwrap()));
        wait_until("the end of the run", || {
            errors(dir.path()).contains("1 interrupted")
        });
        kill_marked(&mark);
        assert_eq!(run.code(), Some(3));
        let records = common::records(&fs::read_to_string(&out).unwrap());
        let kinds: Vec<_> = records.iter().map(|record| &record["type"]).collect();
        if kinds.len() == 2 {
            assert_eq!(kinds, ["output", "job"]);
        }
        kinds.len() == 2
    });
    assert!(ordered, "the machine is too slow");
}

#[test]
fn a_pipe_that_cannot_be_watched_again_does_not_block_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("again");
    // The other job is held up by the long line. Then its pipe is full.
    let list = "head -c 1200000 /dev/zero; touch long; until [ -e go ]; do sleep 0.02; done\n\
                until [ -e long ]; do sleep 0.02; done; yes | head -c 200000; sleep 1000\n";
    // The first three calls of the main thread are before the first job. The next one removes the
    // pipe that is held up. The threads that start jobs make four calls at most.
    let fault = "epoll_ctl:error=ENOSPC:when=5+";
    let Some(mut command) = with_fault(dir.path(), &mark, fault, &["-j2"], list) else {
        return;
    };
    let mut run = Started::new(&mut command);
    let strace = run.0.id();
    wait_until("the removal of the pipe", || {
        // By the main thread: that of the watcher may use an epoll, too.
        let main = fs::read_to_string(format!("/proc/{strace}/task/{strace}/children")).unwrap();
        fs::read_to_string(dir.path().join("strace")).is_ok_and(|calls| {
            calls.lines().any(|call| {
                call.contains("EPOLL_CTL_DEL") && call.split(' ').next() == Some(main.trim())
            })
        })
    });
    fs::write(dir.path().join("go"), "").unwrap();
    assert_eq!(run.code(), Some(3));
    gone(&mark);
    let errors = errors(dir.path());
    assert!(errors.contains("cannot watch another pipe"), "{errors}");
}
