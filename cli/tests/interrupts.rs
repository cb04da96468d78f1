//! Requests to end a run.

mod common;

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use common::{
    EXITRING, Started, gone, jobs, mark, numbers, read_all, signal, signal_again, std_exitring,
    wait_until,
};

/// Runs four jobs that report their start and then run for long.
fn run_sleepers(dir: &std::path::Path, mark: &str, job: &str, arguments: &[&str]) -> Started {
    let list = dir.join("list");
    fs::write(&list, format!("{job}\n").repeat(4)).unwrap();
    let (name, value) = mark.split_once('=').unwrap();
    let mut command = std_exitring(["run", "-j", "4", "--joblog"]);
    command
        .arg(dir.join("log"))
        .args(arguments)
        .arg(&list)
        .env(name, value)
        .current_dir(dir);
    command
        .stdout(File::create(dir.join("out")).unwrap())
        .stderr(File::create(dir.join("err")).unwrap());
    let started = Started::new(&mut command);
    wait_until("four jobs", || numbers(&dir.join("begun")).len() == 4);
    started
}

#[test]
fn an_interrupt_ends_all_jobs_and_leaves_a_complete_job_log() {
    for number in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let dir = tempfile::tempdir().unwrap();
        let mark = mark(&format!("interrupt{number}"));
        let mut run = run_sleepers(dir.path(), &mark, "echo 1 >> begun; sleep 1000 & wait", &[]);
        signal(&run.0, number);
        assert_eq!(run.code(), Some(130));
        gone(&mark);
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        let logged = jobs(&log);
        assert_eq!(logged.len(), 4);
        assert!(
            logged
                .iter()
                .all(|job| job["interrupted"] == true && job["success"] == false),
            "{log}"
        );
        assert!(read_all(File::open(dir.path().join("err")).unwrap()).contains("interrupted"));
    }
}

#[test]
fn a_script_does_not_go_on_after_ctrl_c() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "for i in 1 2; do {EXITRING} run -q -- sh -c 'echo 1 >> begun; sleep 1000' ::: x; done; \
         echo > after"
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(dir.path());
    command.process_group(0).stderr(Stdio::null());
    let mut run = Started::new(&mut command);
    wait_until("a job", || numbers(&dir.path().join("begun")).len() == 1);
    // Ctrl-C goes to the script, too, which waits for the run.
    let group = rustix::process::Pid::from_child(&run.0);
    rustix::process::kill_process_group(group, rustix::process::Signal::INT).unwrap();
    assert_eq!(run.0.wait().unwrap().signal(), Some(libc::SIGINT));
    assert_eq!(numbers(&dir.path().join("begun")).len(), 1);
    assert!(!dir.path().join("after").exists());
}

#[test]
fn jobs_that_ignore_sigterm_are_killed_after_the_grace() {
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("grace");
    let mut run = run_sleepers(
        dir.path(),
        &mark,
        "trap '' TERM; echo 1 >> begun; while :; do sleep 1000; done",
        &["--grace", "200ms"],
    );
    signal(&run.0, libc::SIGINT);
    assert_eq!(run.code(), Some(130));
    gone(&mark);
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(
        jobs(&log).iter().all(|job| job["signal"] == libc::SIGKILL),
        "{log}"
    );
}

#[test]
fn a_second_interrupt_kills_jobs_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("second");
    // A wait for this grace would exceed the timeout of the test.
    let mut run = run_sleepers(
        dir.path(),
        &mark,
        "trap '' TERM; echo 1 >> begun; while :; do sleep 1000; done",
        &["--grace", "1h"],
    );
    signal(&run.0, libc::SIGINT);
    wait_until("the message", || {
        fs::read_to_string(dir.path().join("err"))
            .unwrap()
            .contains("interrupted")
    });
    assert!(
        run.0.try_wait().unwrap().is_none(),
        "jobs that ignore SIGTERM still run"
    );
    signal_again(&run.0, libc::SIGINT);
    assert_eq!(run.code(), Some(130));
    gone(&mark);
}

#[test]
fn an_interrupt_during_many_starts_loses_no_job() {
    for round in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let mark = mark(&format!("storm{round}"));
        let (name, value) = mark.split_once('=').unwrap();
        let script = format!(
            "yes true | {} run -q -j 32 --output jsonl --joblog log > out",
            common::EXITRING
        );
        let mut command = std::process::Command::new("bash");
        command
            .args(["-c", &format!("{script} & echo $! > pid; wait $!")])
            .env(name, value)
            .current_dir(dir.path());
        let mut bash = Started::new(&mut command);
        wait_until("a thousand jobs", || {
            fs::read_to_string(dir.path().join("log")).is_ok_and(|log| log.lines().count() > 1000)
        });
        // The last process of the pipeline is exitring.
        let pid: i32 = fs::read_to_string(dir.path().join("pid"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        assert_eq!(bash.code(), Some(130));
        gone(&mark);
        let records = |name| jobs(&fs::read_to_string(dir.path().join(name)).unwrap());
        let numbers = |jobs: Vec<serde_json::Value>| {
            jobs.iter()
                .map(|job| job["job"].as_u64().unwrap())
                .collect::<Vec<_>>()
        };
        let (reported, logged) = (numbers(records("out")), numbers(records("log")));
        assert_eq!(reported, logged);
        // There is a record of each started job, so the numbers have no gaps.
        assert_eq!(reported, (1..=reported.len() as u64).collect::<Vec<_>>());
    }
}

#[test]
fn a_run_that_waits_for_input_can_be_interrupted() {
    let mut command = std_exitring(["run"]);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut run = Started(command.spawn().unwrap());
    let caught = || {
        let status = fs::read_to_string(format!("/proc/{}/status", run.0.id())).unwrap();
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))
            .unwrap()
            .trim();
        u64::from_str_radix(mask, 16).unwrap() & (1 << (libc::SIGTERM - 1)) != 0
    };
    wait_until("its handlers", caught);
    signal(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
}

#[test]
fn a_parent_death_signal_is_not_sent_while_exitring_runs() {
    // Ignores SIGTERM, and ends once there is a file `go`.
    let waiting_job = "trap '' TERM; echo 1 >> begun; until [ -e go ]; do sleep 0.02; done\n";
    let fails = "until [ -s begun ]; do sleep 0.02; done; exit 1\n";
    for (fail_fast, second) in [(true, fails), (false, "echo 1 >> begun; exec sleep 1000\n")] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("first"), waiting_job).unwrap();
        fs::write(dir.path().join("second"), second).unwrap();
        fs::write(
            dir.path().join("list"),
            "setpriv --pdeathsig KILL sh first\nsh second\n",
        )
        .unwrap();
        let mut command = std_exitring(["run", "-j", "4", "--joblog", "log", "--grace", "1h"]);
        if fail_fast {
            command.arg("--fail-fast");
        }
        command.arg("list").current_dir(dir.path());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut run = Started::new(&mut command);
        let log = || fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        if !fail_fast {
            wait_until("both jobs", || {
                numbers(&dir.path().join("begun")).len() == 2
            });
            signal(&run.0, libc::SIGTERM);
        }
        wait_until("the end of the second", || jobs(&log()).len() == 1);
        // Threads without a job to start would have ended by now.
        std::thread::sleep(std::time::Duration::from_millis(200));
        File::create(dir.path().join("go")).unwrap();
        run.code();
        assert_eq!(jobs(&log())[0]["exit_code"], 0, "{}", log());
    }
}
