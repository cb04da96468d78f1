//! Time-outs, Ctrl-C, and readers that have seen enough.

mod common;

use std::fs::{self, File};
use std::process::Stdio;

use common::{
    Started, exitring, gone, jobs, mark, numbers, read_all, shell, signal, signal_again,
    std_exitring, stdout, wait_until,
};

#[test]
fn a_time_out_leaves_no_descendant_alive() {
    let mark = mark("tree");
    let (name, value) = mark.split_once('=').unwrap();
    // A tree of sleepers, and one that is deaf to SIGTERM.
    let list = "sleep 1000 & (sleep 1000 & sleep 1000) & (trap '' TERM; sleep 1000; sleep 1000) & wait\nsleep 1000\nsleep 1000 & exec sleep 1000\n";
    let arguments = [
        "run",
        "-j",
        "8",
        "--timeout",
        "1s",
        "--grace",
        "300ms",
        "--output",
        "jsonl",
    ];
    let output = exitring(arguments)
        .env(name, value)
        .write_stdin(list)
        .output()
        .unwrap();
    gone(&mark);
    let jobs = jobs(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(jobs.len(), 3);
    assert!(
        jobs.iter()
            .all(|job| job["timed_out"] == true && job["success"] == false),
        "{jobs:?}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_deaf_grandchild_is_killed_though_its_parent_heard() {
    let mark = mark("deaf");
    let (name, value) = mark.split_once('=').unwrap();
    let list = "sh -c 'trap \"\" TERM; while :; do sleep 1; done' & sleep 1000\n";
    let output = exitring(["run", "--timeout", "300ms", "--grace", "300ms"])
        .env(name, value)
        .write_stdin(list)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    gone(&mark);
}

#[test]
fn a_job_that_ends_in_time_is_left_alone() {
    let output = stdout(
        exitring(["run", "--timeout", "60s", "--output", "jsonl"]).write_stdin("sleep 0.05\n"),
    );
    assert_eq!(jobs(&output)[0]["timed_out"], false);
}

#[test]
fn a_timed_out_job_that_ends_well_has_failed_all_the_same() {
    let list = "trap 'exit 0' TERM; while :; do sleep 0.01; done\n";
    let output =
        stdout(exitring(["run", "--timeout", "200ms", "--output", "jsonl"]).write_stdin(list));
    let job = &jobs(&output)[0];
    assert_eq!(
        (&job["timed_out"], &job["success"], &job["exit_code"]),
        (&true.into(), &false.into(), &0.into())
    );
}

/// Jobs that say that they run, and then do for long.
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
fn an_interrupt_ends_all_and_leaves_a_whole_job_log() {
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
fn the_deaf_are_killed_after_the_grace() {
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
fn a_second_interrupt_kills_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("second");
    // With this grace, waiting for it would be too long for the test.
    let mut run = run_sleepers(
        dir.path(),
        &mark,
        "trap '' TERM; echo 1 >> begun; while :; do sleep 1000; done",
        &["--grace", "1h"],
    );
    signal(&run.0, libc::SIGINT);
    wait_until("what it says", || {
        fs::read_to_string(dir.path().join("err"))
            .unwrap()
            .contains("interrupted")
    });
    assert!(run.0.try_wait().unwrap().is_none(), "the deaf run on");
    signal_again(&run.0, libc::SIGINT);
    assert_eq!(run.code(), Some(130));
    gone(&mark);
}

#[test]
fn an_interrupt_while_jobs_are_started_in_a_storm_loses_none() {
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
        // The last of the pipeline is exitring.
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
        let (told, logged) = (numbers(records("out")), numbers(records("log")));
        assert_eq!(told, logged);
        // All that were started were told of, so there are no gaps.
        assert_eq!(told, (1..=told.len() as u64).collect::<Vec<_>>());
    }
}

#[test]
fn who_waits_for_a_line_that_never_comes_can_be_interrupted() {
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
fn a_reader_who_has_seen_enough_ends_the_run_quietly() {
    let mark = mark("head");
    let (name, value) = mark.split_once('=').unwrap();
    for options in ["", "--output jsonl"] {
        let script = format!(
            "(yes 'echo x; sleep 0.01' | $EXITRING run -q -j 8 {options}; echo $? >&2) | head -n 3"
        );
        let output = shell(&script).env(name, value).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 3);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "141\n");
        gone(&mark);
    }
}

#[test]
fn a_reader_who_does_not_read_cannot_keep_it_from_ending() {
    let mut command = std_exitring([
        "run", "-q", "-j", "4", "--grace", "300ms", "--", "seq", "{}", ":::", "1000000", "1000000",
    ]);
    let mut run = Started(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let out = run.0.stdout.take().unwrap();
    // Full: nothing is left to do but wait. (How much that is depends on how it was written: each piece has pages of its own.)
    let mut before = 0;
    wait_until("a full pipe", || {
        let now = rustix::io::ioctl_fionread(&out).unwrap();
        let full = now > 0 && now == before;
        before = now;
        std::thread::sleep(std::time::Duration::from_millis(300));
        full
    });
    signal(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
    drop(out);
}

#[test]
fn a_full_disk_is_said_once_and_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    // What is written beyond fails, as on a full disk.
    let cases = [
        (
            "ulimit -f 4; yes 'echo 123456789' | $EXITRING run -q -j 4 --joblog joblog",
            "the job log joblog",
        ),
        (
            "yes 'echo x' | $EXITRING run -q -j 4 --joblog /dev/full",
            "the job log /dev/full",
        ),
        (
            "ulimit -f 4; yes 'seq 3000' | $EXITRING run -q -j 4 --log logs",
            "the log logs/",
        ),
        (
            "yes 'echo x' | $EXITRING run -q -j 4 > /dev/full",
            "standard output",
        ),
        (
            "yes 'echo x' | $EXITRING run -q -j 4 --output jsonl > /dev/full",
            "standard output",
        ),
    ];
    for (script, what) in cases {
        let output = shell(&format!("{script}; echo code $? >&2"))
            .current_dir(dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("code 3"), "{script}: {text}");
        assert_eq!(text.matches("cannot write").count(), 1, "{script}: {text}");
        assert!(text.contains(what), "{script}: {text}");
    }
    // What jobs write themselves, to a disk of their own, where one may be made.
    let script = "unshare -m sh -c 'mkdir -p disk && mount -t tmpfs -o size=16k none disk'";
    let may_mount = shell(script).current_dir(dir.path()).output().unwrap();
    if may_mount.status.success() {
        // A job that does not care has lost its output all the same.
        for (options, job, what) in [
            ("--append disk/all", "seq 3000", "cannot write the file of"),
            ("--log disk/logs", "seq 3000", "cannot write the log disk"),
            (
                "--log disk/logs",
                "seq 3000; true",
                "cannot write the log disk",
            ),
        ] {
            let script = format!(
                "mount -t tmpfs -o size=16k none disk; yes \"{job}\" | $EXITRING run -q -j 4 {options}; echo code $? >&2"
            );
            let output = shell(&format!("unshare -m sh -c '{script}'"))
                .current_dir(dir.path())
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(text.contains("code 3"), "{options}: {text}");
            assert_eq!(text.matches(what).count(), 1, "{options}: {text}");
            assert!(text.contains("make room"), "{options}: {text}");
        }
    } else {
        eprintln!("not tested: --append and --log to a full disk, as none can be mounted");
    }
    // The log that did not fit is whole.
    let log = fs::read_to_string(dir.path().join("joblog")).unwrap();
    assert!(log.ends_with('\n') && !jobs(&log).is_empty());
}

/// In a pipeline whose shell ends of SIGTERM at once: takes its time to clean up, until it is let go.
const CLEANER: &str = "trap 'touch cleaning; until [ -e go ]; do sleep 0.02; done; touch cleaned; exit 0' TERM\n\
                       echo 1 >> begun\n\
                       while :; do sleep 0.05; done\n";

fn run_pipeline(dir: &std::path::Path, mark: &str, arguments: &[&str]) -> Started {
    fs::write(dir.join("cleaner"), CLEANER).unwrap();
    fs::write(dir.join("list"), "sh cleaner | cat\n").unwrap();
    let (name, value) = mark.split_once('=').unwrap();
    let mut command = std_exitring(["run", "--joblog", "log", "--grace", "1h"]);
    command.args(arguments).arg("list").env(name, value);
    command.current_dir(dir).stdout(Stdio::null());
    command.stderr(File::create(dir.join("err")).unwrap());
    let run = Started::new(&mut command);
    wait_until("the job", || numbers(&dir.join("begun")).len() == 1);
    run
}

#[test]
fn a_pipeline_has_its_grace_at_an_interrupt_and_at_a_time_out() {
    for (arguments, code) in [(&[][..], 130), (&["--timeout", "500ms"], 1)] {
        let dir = tempfile::tempdir().unwrap();
        let mark = mark(&format!("pipeline{code}"));
        let mut run = run_pipeline(dir.path(), &mark, arguments);
        if code == 130 {
            signal(&run.0, libc::SIGTERM);
        }
        wait_until("the cleaning", || dir.path().join("cleaning").exists());
        // Longer than its shell takes to end, and to be seen to.
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(run.0.try_wait().unwrap().is_none(), "the run has not ended");
        let log = || fs::read_to_string(dir.path().join("log")).unwrap();
        assert_eq!(log(), "", "nor has the job");
        File::create(dir.path().join("go")).unwrap();
        assert_eq!(run.code(), Some(code));
        assert!(dir.path().join("cleaned").exists());
        assert_eq!(jobs(&log()).len(), 1);
        gone(&mark);
    }
}

#[test]
fn a_second_interrupt_kills_what_is_left_of_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("rest");
    let mut run = run_pipeline(dir.path(), &mark, &[]);
    signal(&run.0, libc::SIGTERM);
    wait_until("the cleaning", || dir.path().join("cleaning").exists());
    signal_again(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
    gone(&mark);
    assert!(!dir.path().join("cleaned").exists());
}

#[test]
fn a_job_is_not_tried_again_while_its_group_has_its_grace() {
    let dir = tempfile::tempdir().unwrap();
    let line = "(trap 'sleep 0.3; rmdir lock; exit' TERM; mkdir lock || touch overlap; while :; do sleep 0.05; done) | cat\n";
    let arguments = [
        "run",
        "-j",
        "2",
        "--timeout",
        "400ms",
        "--retries",
        "1",
        "--grace",
        "1h",
    ];
    let mut command = exitring(arguments);
    let output = command.write_stdin(line).current_dir(dir.path());
    assert_eq!(output.output().unwrap().status.code(), Some(1));
    let left = |name| dir.path().join(name).exists();
    assert_eq!([left("lock"), left("overlap")], [false, false]);
}

#[test]
fn a_job_that_asked_for_a_signal_at_its_parents_death_gets_none_while_exitring_lives() {
    // Ends by itself when it is let go, and takes no notice of SIGTERM.
    let patient = "trap '' TERM; echo 1 >> begun; until [ -e go ]; do sleep 0.02; done\n";
    let fails = "until [ -s begun ]; do sleep 0.02; done; exit 1\n";
    for (fail_fast, second) in [(true, fails), (false, "echo 1 >> begun; exec sleep 1000\n")] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("first"), patient).unwrap();
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
        // Threads that have nothing more to start would have ended by now.
        std::thread::sleep(std::time::Duration::from_millis(200));
        File::create(dir.path().join("go")).unwrap();
        run.code();
        assert_eq!(jobs(&log())[0]["exit_code"], 0, "{}", log());
    }
}
