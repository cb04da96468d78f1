//! Output that cannot be written: closed pipes, readers that do not read, full disks.

mod common;

use std::fs;
use std::io::Seek;
use std::process::Stdio;

use common::{Started, gone, jobs, mark, read_all, shell, signal, std_exitring, wait_until};

#[test]
fn a_closed_output_pipe_ends_the_run_without_a_message() {
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
fn a_reader_that_does_not_read_does_not_delay_an_interrupt() {
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
    // Once the pipe is full, exitring only waits. (Its capacity in bytes depends on the writes,
    // because each write starts a new page.)
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
fn jobs_whose_output_nobody_read_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let job = "head -c 60000 /dev/zero | tr '\\0' $0; echo; echo end $0; touch $0";
    let command = |options: &[&str]| {
        let mut run = std_exitring(["run", "-j2", "--joblog", "log", "--grace", "300ms"]);
        run.args(options)
            .args(["--", "sh", "-c", job, "{}", ":::", "a", "b", "c", "d"]);
        run.current_dir(dir.path());
        run
    };
    let mut errors = tempfile::tempfile().unwrap();
    let mut run = Started::new(
        command(&[])
            .stdout(Stdio::piped())
            .stderr(errors.try_clone().unwrap()),
    );
    let out = run.0.stdout.take().unwrap();
    // The output of both does not fit into the pipe.
    wait_until("two have ended, and the pipe is full", || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        rustix::io::ioctl_fionread(&out).unwrap() > 60_000
            && ["a", "b"].map(|job| dir.path().join(job).exists()) == [true; 2]
    });
    signal(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
    let first = read_all(out);
    errors.rewind().unwrap();
    let text = read_all(errors);
    assert!(
        text.contains("--resume runs what is not in the job log"),
        "{text}"
    );
    let rest = command(&["--resume"]).output().unwrap();
    let rest = String::from_utf8_lossy(&rest.stdout);
    for job in ["a", "b", "c", "d"] {
        let line = format!("end {job}\n");
        assert!(first.contains(&line) || rest.contains(&line), "{job}");
    }
}

#[test]
fn a_job_whose_output_could_not_be_written_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    // The second job ends after its output could not be written, and the last one writes nothing.
    let list = "echo one\necho two; sleep 0.3\nsleep 0.1\n";
    fs::write(dir.path().join("list"), list).unwrap();
    let script = "$EXITRING run -q -j3 --grace 1000 --joblog log list > /dev/full; echo $?; $EXITRING run -q -j1 --joblog log --resume list";
    let output = shell(script).current_dir(dir.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "3\none\ntwo\n");
}

#[test]
fn a_full_disk_is_reported_once_and_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    // Writes beyond the limit fail, as on a full disk.
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
    // Jobs write to a full disk themselves, where one can be mounted.
    let script = "unshare -m sh -c 'mkdir -p disk && mount -t tmpfs -o size=16k none disk'";
    let may_mount = shell(script).current_dir(dir.path()).output().unwrap();
    if may_mount.status.success() {
        // A job that ignores the error has lost its output all the same.
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
            assert!(text.contains("free space"), "{options}: {text}");
        }
    } else {
        eprintln!("not tested: --append and --log to a full disk, as none can be mounted");
    }
    // The log has only complete records.
    let log = fs::read_to_string(dir.path().join("joblog")).unwrap();
    assert!(log.ends_with('\n') && !jobs(&log).is_empty());
}

#[test]
fn a_file_size_limit_is_distinguished_from_a_full_disk() {
    for options in [
        "--joblog joblog",
        "--log logs",
        "--append all",
        "> out",
        "--output jsonl > out",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "ulimit -f 4; yes 'seq 3000' | $EXITRING run -q -j 4 {options}; echo code $? >&2"
        );
        let output = shell(&script).current_dir(dir.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            text.contains("code 3") && text.contains("ulimit -f"),
            "{options}: {text}"
        );
        assert!(!text.contains("disk"), "{options}: {text}");
    }
}

#[test]
fn a_job_log_that_cannot_be_written_stays_locked() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let waits = "until [ -e go ]; do sleep 0.02; done\n";
    fs::write(path("list"), format!("{waits}{}", "true\n".repeat(1000))).unwrap();
    let script = "ulimit -f 4; exec $EXITRING run -q -j2 --joblog log list 2> err";
    let mut command = std::process::Command::new("bash");
    command.args(["-c", script]).current_dir(dir.path());
    command.env("EXITRING", common::EXITRING);
    let mut run = Started::new(&mut command);
    wait_until("the message", || {
        fs::read_to_string(path("err")).is_ok_and(|text| text.contains("cannot write the job log"))
    });
    let mut second = common::exitring(["run", "--joblog", "log", "--resume", "list"]);
    let text = common::stderr(second.current_dir(dir.path()));
    assert!(
        text.contains("another run is writing the job log"),
        "{text}"
    );
    fs::write(path("go"), "").unwrap();
    assert_eq!(run.code(), Some(3));
    // Nothing follows the records that were written before.
    assert!(
        jobs(&fs::read_to_string(path("log")).unwrap())
            .iter()
            .all(|job| job["job"] != 1)
    );
}

#[test]
fn a_report_that_cannot_be_written_is_named_whatever_failed_before() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mkdir reports; echo 'rm -r reports' | \
                  $EXITRING run -q --joblog /dev/full --junit reports/junit.xml";
    let output = shell(script).current_dir(dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("/dev/full") && text.contains("junit.xml"),
        "{text}"
    );
}
