//! Signals to `exitring run`, and the signal dispositions that jobs inherit.

mod common;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{
    EXITRING, Started, gone, jobs, mark, numbers, signal, signal_again, std_exitring, wait_until,
};

/// A job that reports its start, and ends once there is a file `go`.
const WAITING_JOB: &str = "echo 1 >> begun; until [ -e go ]; do sleep 0.02; done";

/// Runs a list with a job log, and waits until `begun` jobs have started.
fn run(dir: &Path, mark: &str, list: &str, arguments: &[&str], begun: usize) -> Started {
    fs::write(dir.join("list"), list).unwrap();
    let (name, value) = mark.split_once('=').unwrap();
    let mut command = std_exitring(["run", "--joblog", "log"]);
    command.args(arguments).arg("list").current_dir(dir);
    command.env(name, value).stdout(Stdio::null());
    command.stderr(File::create(dir.join("err")).unwrap());
    let run = Started::new(&mut command);
    wait_until("jobs that have begun", || {
        numbers(&dir.join("begun")).len() == begun
    });
    run
}

fn log(dir: &Path) -> Vec<serde_json::Value> {
    jobs(&fs::read_to_string(dir.join("log")).unwrap())
}

fn messages(dir: &Path) -> String {
    fs::read_to_string(dir.join("err")).unwrap()
}

fn let_jobs_end(dir: &Path) {
    File::create(dir.join("go")).unwrap();
}

#[test]
fn two_simultaneous_signals_are_one_request() {
    let cleans = "trap 'sleep 0.3; touch cleaned; exit' TERM; echo 1 >> begun; while :; do sleep 0.05; done\n";
    for pair in [
        [libc::SIGTERM, libc::SIGTERM],
        [libc::SIGHUP, libc::SIGTERM],
        [libc::SIGINT, libc::SIGTERM],
        [libc::SIGTERM, libc::SIGCONT],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mark = mark("pair");
        let mut run = run(dir.path(), &mark, cleans, &["--grace", "1h"], 1);
        for number in pair {
            signal(&run.0, number);
        }
        assert_eq!(run.code(), Some(130));
        assert!(dir.path().join("cleaned").exists(), "{pair:?}");
        gone(&mark);
    }
}

#[test]
fn every_catchable_signal_leaves_a_record_for_each_job() {
    // These stop the process or cannot be caught.
    let left_out = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ];
    let mut ended = Vec::new();
    for number in 1..=libc::SIGRTMAX() {
        if left_out.contains(&number) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let mark = mark(&format!("signal{number}"));
        let mut run = run(dir.path(), &mark, WAITING_JOB, &[], 1);
        // SAFETY: the process was not reaped, and the call takes no pointers.
        assert_eq!(unsafe { libc::kill(run.0.id() as i32, number) }, 0);
        // Lets the signal arrive before the job ends: exitring checks for the two one after the
        // other.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let_jobs_end(dir.path());
        let code = run.code();
        let interrupted = code == Some(130);
        assert!(interrupted || code == Some(0), "{number}: {code:?}");
        let log = log(dir.path());
        assert_eq!(log.len(), 1, "{number}");
        if interrupted {
            ended.push(number);
        }
        gone(&mark);
    }
    for number in [libc::SIGTERM, libc::SIGXCPU, libc::SIGPWR, libc::SIGSEGV] {
        assert!(ended.contains(&number), "{number}: {ended:?}");
    }
    for number in [libc::SIGALRM, libc::SIGUSR1, libc::SIGIO] {
        assert!(!ended.contains(&number), "{number}: {ended:?}");
    }
}

#[test]
fn usr1_raises_and_usr2_lowers_the_number_of_jobs() {
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("more");
    let list = format!("{WAITING_JOB}\n").repeat(3);
    let mut run = run(dir.path(), &mark, &list, &["-j", "1"], 1);
    signal(&run.0, libc::SIGUSR1);
    wait_until("a second job", || {
        numbers(&dir.path().join("begun")).len() == 2
    });
    for times in 1..=2 {
        signal(&run.0, libc::SIGUSR2);
        wait_until("the message", || {
            messages(dir.path()).matches("SIGUSR2: at most 1").count() == times
        });
    }
    let_jobs_end(dir.path());
    assert_eq!(run.code(), Some(0));
    assert_eq!(log(dir.path()).len(), 3);
}

/// Runs one line with the given dispositions and mask, as a parent may set them. Returns the
/// standard output.
fn inherited(ignored: &'static [i32], blocked: &'static [i32], line: &str) -> String {
    let mut command = std_exitring(["run", "-q", "--output", "jsonl", "--grace", "1h"]);
    command.args(["--", "sh", "-c", "{}", ":::", line]);
    let prepare = move || {
        // SAFETY: the call installs no handler, and the set is initialised before its use.
        unsafe {
            for number in 1..32 {
                libc::signal(number, libc::SIG_DFL);
            }
            for &number in ignored {
                libc::signal(number, libc::SIG_IGN);
            }
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for &number in blocked {
                libc::sigaddset(&raw mut set, number);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: the closure only makes system calls.
    unsafe { command.pre_exec(prepare) };
    let output = command.stdin(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A mask in the `/proc/self/status` of a job.
fn mask_of_job(text: &str, name: &str) -> u64 {
    let records = common::records(text);
    let lines = records.iter().filter_map(|record| record["line"].as_str());
    let mut masks = lines.filter_map(|line| line.strip_prefix(name));
    u64::from_str_radix(masks.next().unwrap().trim(), 16).unwrap()
}

const STATUS: &str = "cat /proc/self/status";

fn bit(number: i32) -> u64 {
    1 << (number - 1)
}

#[test]
fn exit_codes_are_known_if_the_parent_ignored_sigchld() {
    let text = inherited(&[libc::SIGCHLD], &[], "exit 3");
    assert_eq!(jobs(&text)[0]["exit_code"], 3, "{text}");
}

#[test]
fn jobs_do_not_inherit_ignored_or_blocked_signals() {
    let plain = inherited(&[], &[], STATUS);
    let ignored = inherited(
        &[
            libc::SIGCHLD,
            libc::SIGPIPE,
            libc::SIGTERM,
            libc::SIGINT,
            libc::SIGQUIT,
            libc::SIGUSR1,
            libc::SIGTTOU,
            libc::SIGTSTP,
        ],
        &[libc::SIGTERM, libc::SIGALRM, libc::SIGCHLD],
        STATUS,
    );
    for name in ["SigIgn:", "SigBlk:"] {
        let masks = [&plain, &ignored].map(|text| mask_of_job(text, name));
        assert_eq!(masks[0], masks[1], "{name}");
    }
    assert_eq!(mask_of_job(&plain, "SigBlk:"), 0);
    let usual = mask_of_job(&plain, "SigIgn:") & u64::from(u32::MAX >> 1);
    assert_eq!(usual, 0, "no signal but the C library's own");
}

#[test]
fn under_nohup_jobs_ignore_sighup_too() {
    let text = inherited(&[libc::SIGHUP], &[], STATUS);
    assert_ne!(mask_of_job(&text, "SigIgn:") & bit(libc::SIGHUP), 0);
    let text = inherited(&[], &[], STATUS);
    assert_eq!(mask_of_job(&text, "SigIgn:") & bit(libc::SIGHUP), 0);
}

#[test]
fn a_run_and_its_jobs_receive_sigterm_that_was_blocked_at_the_start() {
    let text = inherited(
        &[],
        &[libc::SIGTERM],
        "kill -TERM $PPID; while :; do sleep 0.02; done",
    );
    let job = &jobs(&text)[0];
    assert_eq!(
        (&job["interrupted"], &job["signal"]),
        (&true.into(), &libc::SIGTERM.into()),
        "{text}"
    );
}

/// Jobs that report their pids.
const NAMED: &str = "echo $$ >> pids; echo 1 >> begun; exec sleep 1000\n";

#[test]
fn jobs_that_die_of_the_signal_that_ends_the_run_are_interrupted() {
    for number in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let dir = tempfile::tempdir().unwrap();
        let mark = mark(&format!("everybody{number}"));
        let mut run = run(dir.path(), &mark, &NAMED.repeat(4), &["-j", "4"], 4);
        for pid in numbers(&dir.path().join("pids")) {
            // SAFETY: the process is a job that was not signalled, and the call takes no pointers.
            assert_eq!(unsafe { libc::kill(pid as i32, number) }, 0);
        }
        signal(&run.0, number);
        assert_eq!(run.code(), Some(130));
        let log = log(dir.path());
        assert_eq!(log.len(), 4);
        assert!(log.iter().all(|job| job["interrupted"] == true), "{log:?}");
    }
}

#[test]
fn jobs_that_fail_after_a_request_to_end_are_interrupted() {
    // The jobs handle SIGTERM and exit with a code of their own.
    let list = "trap 'exit 143' TERM; echo 1 >> begun; while :; do sleep 0.02; done\n\
                trap 'exit 1' TERM; echo 1 >> begun; while :; do sleep 0.02; done\n";
    let dir = tempfile::tempdir().unwrap();
    let mut run = run(dir.path(), &mark("codes"), list, &["-j", "2"], 2);
    signal(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
    let log = log(dir.path());
    assert!(log.iter().all(|job| job["interrupted"] == true), "{log:?}");
}

#[test]
fn a_job_that_dies_of_a_signal_without_a_request_to_end_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let list = "kill -TERM $$\nkill -KILL $$\nexit 143\ntouch after\n";
    let mut first = run(dir.path(), &mark("own"), list, &["-j", "1"], 0);
    assert_eq!(first.code(), Some(1));
    let states = |job: &serde_json::Value| {
        let flags = ["success", "interrupted"].map(|name| job[name].as_bool().unwrap());
        (flags, job["attempts"].as_u64().unwrap())
    };
    let failed = ([false, false], 1);
    let found: Vec<_> = log(dir.path()).iter().map(states).collect();
    assert_eq!(found, [failed, failed, failed, ([true, false], 1)]);

    let dir = tempfile::tempdir().unwrap();
    let mut again = run(dir.path(), &mark("again"), list, &["--retries", "2"], 0);
    assert_eq!(again.code(), Some(1));
    assert_eq!(states(&log(dir.path())[0]), ([false, false], 3));

    let dir = tempfile::tempdir().unwrap();
    let arguments = ["-j", "1", "--fail-fast"];
    let mut fast = run(dir.path(), &mark("fast"), list, &arguments, 0);
    assert_eq!(fast.code(), Some(1));
    assert_eq!(log(dir.path()).len(), 1);
    assert!(!dir.path().join("after").exists());
}

/// A user without privileges, and a program that changes its user to root for good, as `sudo` does.
/// The test is skipped where that is not possible.
fn unsignallable(dir: &Path) -> Option<Command> {
    let program = dir.join("as-root");
    let copied = Command::new("sh")
        .args(["-c", "cp \"$(command -v setpriv)\" as-root && chmod 4755 as-root && cp \"$0\" exitring && chmod 755 exitring . && chmod 777 ."])
        .arg(EXITRING)
        .current_dir(dir)
        .status()
        .unwrap();
    let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let as_user = |arguments: &[&std::ffi::OsStr]| {
        let mut command = Command::new("setpriv");
        command.args(user).args(arguments).current_dir(dir);
        command
    };
    let root = |command: &mut Command| {
        let output = command.args(["--reuid", "0", "id", "-u"]).output();
        output.is_ok_and(|output| output.stdout == b"0\n")
    };
    if !copied.success() || !root(&mut as_user(&[program.as_os_str()])) {
        eprintln!("not tested: no program can be made to run as root by another user");
        return None;
    }
    let exitring = dir.join("exitring");
    Some(as_user(&[exitring.as_os_str(), "run".as_ref()]))
}

/// Kills a process as root.
fn end(pid: u64) {
    let ended = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(ended.unwrap().success(), "the process still ran");
}

#[test]
fn an_unsignallable_job_is_reported_and_left_running_at_a_second_request() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut command) = unsignallable(dir.path()) else {
        return;
    };
    command.args(["--joblog", "log", "--timeout", "300ms", "--grace", "100ms"]);
    let script = "echo $$ > pid; exec sleep 1000";
    command.args([
        "--",
        "./as-root",
        "--reuid",
        "0",
        "sh",
        "-c",
        "{}",
        ":::",
        script,
    ]);
    command.stderr(File::create(dir.path().join("err")).unwrap());
    let mut run = Started::new(command.stdout(Stdio::null()));
    wait_until("the report", || messages(dir.path()).contains("EPERM"));
    assert!(messages(dir.path()).contains("cannot be ended"));
    signal(&run.0, libc::SIGTERM);
    wait_until("the request", || {
        messages(dir.path()).contains("interrupted")
    });
    signal_again(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
    let log = log(dir.path());
    assert_eq!(log[0]["interrupted"], true, "{log:?}");
    assert_eq!(log[0]["outcome"], "unknown");
    let reason = log[0]["reason"].as_str().unwrap();
    let pid = numbers(&dir.path().join("pid"))[0];
    let named = reason.contains(&pid.to_string()) && reason.contains("EPERM");
    assert!(named, "{reason}");
    end(pid);
}

#[test]
fn unsignallable_processes_of_an_ended_job_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut command) = unsignallable(dir.path()) else {
        return;
    };
    command.args([
        "--timeout",
        "300ms",
        "--grace",
        "100ms",
        "--",
        "sh",
        "-c",
        "{}",
        ":::",
    ]);
    // SIGTERM ends the shell.
    command.arg("./as-root --reuid 0 sh -c 'echo $$ > pid; exec sleep 1000' & wait");
    command.stderr(File::create(dir.path().join("err")).unwrap());
    let mut run = Started::new(command.stdout(Stdio::null()));
    assert_eq!(run.code(), Some(1));
    let text = messages(dir.path());
    assert!(text.contains("processes of its group"), "{text}");
    end(numbers(&dir.path().join("pid"))[0]);
}

#[test]
fn output_of_an_unsignallable_job_does_not_pile_up_after_the_grace() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut command) = unsignallable(dir.path()) else {
        return;
    };
    // It ends after it has written more than the run may hold.
    let script = "echo 1 > begun; yes | head -c 200000000; touch written; exec sleep 1000";
    command.args(["-q", "--grace", "100ms", "--joblog", "log"]);
    command.args(["--", "./as-root", "--reuid", "0", "sh", "-c", script]);
    command.args([":::", "1"]).stdout(Stdio::piped());
    let mut run = Started::new(command.stderr(Stdio::null()));
    let out = run.0.stdout.take().unwrap();
    wait_until("the job", || dir.path().join("begun").exists());
    signal(&run.0, libc::SIGINT);
    wait_until("the end of its output", || {
        dir.path().join("written").exists()
    });
    let status = fs::read_to_string(format!("/proc/{}/status", run.0.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    signal_again(&run.0, libc::SIGINT);
    assert_eq!(run.code(), Some(130));
    drop(out);
    let log = log(dir.path());
    let reason = log[0]["reason"].as_str().unwrap();
    let pid = reason.strip_prefix("left running as process ").unwrap();
    end(pid.split(':').next().unwrap().parse().unwrap());
    assert!(peak < 100_000, "{peak} kB");
}
