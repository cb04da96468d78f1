//! The job log, and runs that are resumed from it.

mod common;

use std::fs;
use std::path::Path;

use common::{Started, code, exitring, jobs, numbers, std_exitring, stderr, wait_until};

/// Writes a list in which each job appends its number to a file.
fn write_list(dir: &Path, jobs: u64) {
    let line = |number| format!("echo {number} >> done\n");
    fs::write(dir.join("list"), (1..=jobs).map(line).collect::<String>()).unwrap();
}

fn resume(dir: &Path, option: &str) -> assert_cmd::Command {
    let mut command = exitring(["run", "-j", "8", "--joblog", "log", option, "list"]);
    command.current_dir(dir);
    command
}

#[test]
fn resume_after_a_kill_runs_the_rest_and_logs_no_job_twice() {
    for round in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write_list(dir, 2000);
        let mut command = std_exitring(["run", "-q", "-j", "8", "--joblog", "log", "list"]);
        let mut run = Started::new(command.current_dir(dir));
        wait_until("some jobs", || {
            numbers(&dir.join("done")).len() > 200 * (round + 1)
        });
        run.0.kill().unwrap();
        run.0.wait().unwrap();
        // Jobs that were running may end first, so that their numbers are not mixed with those of
        // the second run.
        let mut before = Vec::new();
        wait_until("the orphans", || {
            let now = numbers(&dir.join("done"));
            let still = now.len() == before.len();
            before = now;
            std::thread::sleep(std::time::Duration::from_millis(50));
            still
        });
        let log = fs::read_to_string(dir.join("log")).unwrap();
        let whole = &log[..log.rfind('\n').map_or(0, |end| end + 1)];
        let logged: Vec<u64> = jobs(whole)
            .iter()
            .map(|job| job["job"].as_u64().unwrap())
            .collect();
        assert!(logged.len() < 2000, "it was killed before the end");

        assert_eq!(code(&mut resume(dir, "--resume")), Some(0));
        let mut after = numbers(&dir.join("done"));
        for number in &logged {
            assert_eq!(
                after.iter().filter(|after| *after == number).count(),
                1,
                "{number} was done, and run again"
            );
        }
        after.dedup();
        assert_eq!(after, (1..=2000).collect::<Vec<_>>());
        assert_eq!(
            jobs(&fs::read_to_string(dir.join("log")).unwrap()).len(),
            2000
        );
        // No job is left to run.
        let text = stderr(&mut resume(dir, "--resume"));
        assert!(text.contains("2000 were done by an earlier run"), "{text}");
    }
}

#[test]
fn an_incomplete_last_line_is_repaired_and_its_job_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_list(dir, 5);
    assert_eq!(
        code(exitring(["run", "-j1", "--joblog", "log", "list"]).current_dir(dir)),
        Some(0)
    );
    let log = fs::read_to_string(dir.join("log")).unwrap();
    for cut in [1, 2, 30, log.lines().last().unwrap().len()] {
        fs::write(dir.join("log"), &log[..log.len() - cut]).unwrap();
        fs::remove_file(dir.join("done")).unwrap();
        assert_eq!(code(&mut resume(dir, "--resume")), Some(0));
        assert_eq!(numbers(&dir.join("done")), [5], "cut off: {cut}");
        assert_eq!(jobs(&fs::read_to_string(dir.join("log")).unwrap()).len(), 5);
    }
}

#[test]
fn failed_jobs_run_again_only_with_resume_failed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(
        dir.join("list"),
        "echo 1 >> done\necho 2 >> done; test -e good\nno-such-command\n",
    )
    .unwrap();
    assert_eq!(
        code(exitring(["run", "--joblog", "log", "list"]).current_dir(dir)),
        Some(1)
    );
    assert_eq!(
        code(&mut resume(dir, "--resume")),
        Some(1),
        "earlier failures count"
    );
    assert_eq!(numbers(&dir.join("done")), [1, 2]);
    fs::write(dir.join("good"), "").unwrap();
    assert_eq!(
        code(&mut resume(dir, "--resume-failed")),
        Some(1),
        "one job still cannot be started"
    );
    assert_eq!(numbers(&dir.join("done")), [1, 2, 2]);
    let text = stderr(&mut resume(dir, "--resume"));
    assert!(
        text.contains("3 were done by an earlier run, 1 of them failed"),
        "{text}"
    );
}

#[test]
fn a_different_list_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_list(dir, 5);
    assert_eq!(
        code(exitring(["run", "--joblog", "log", "list"]).current_dir(dir)),
        Some(0)
    );
    let list = fs::read_to_string(dir.join("list")).unwrap();
    fs::write(dir.join("list"), list.replace("echo 3", "echo 33")).unwrap();
    let output = resume(dir, "--resume").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("job 3 is \"echo 33 >> done\" now"), "{text}");
    assert_eq!(numbers(&dir.join("done")), [1, 2, 3, 4, 5]);
}

#[test]
fn a_longer_list_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_list(dir, 5);
    assert_eq!(
        code(exitring(["run", "--joblog", "log", "list"]).current_dir(dir)),
        Some(0)
    );
    write_list(dir, 8);
    assert_eq!(code(&mut resume(dir, "--resume")), Some(0));
    assert_eq!(numbers(&dir.join("done")), (1..=8).collect::<Vec<_>>());
}

#[test]
fn a_log_with_records_is_refused_without_resume() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_list(dir, 2);
    let run = || {
        exitring(["run", "--joblog", "log", "list"])
            .current_dir(dir)
            .output()
            .unwrap()
    };
    assert_eq!(run().status.code(), Some(0));
    let again = run();
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("use --resume to continue it"));
}

#[test]
fn an_invalid_log_is_reported_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_list(dir, 2);
    fs::write(dir.join("log"), "Seq\tHost\tStarttime\n").unwrap();
    let output = resume(dir, "--resume").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("line 1 of the job log log is not a record"),
        "{output:?}"
    );
    assert_eq!(
        fs::read_to_string(dir.join("log")).unwrap(),
        "Seq\tHost\tStarttime\n",
        "the log is not changed"
    );
}

#[test]
fn a_file_that_is_not_a_log_is_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_list(dir, 2);
    let record = {
        assert_eq!(
            code(exitring(["run", "-j1", "--joblog", "log", "list"]).current_dir(dir)),
            Some(0)
        );
        fs::read_to_string(dir.join("log")).unwrap()
    };
    for text in [
        "without an end",
        "a line\nwithout an end",
        "\0\0\0",
        "{\"type\":\"output\"",
        &format!("{record}without an end"),
    ] {
        fs::write(dir.join("log"), text).unwrap();
        let output = resume(dir, "--resume").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(fs::read_to_string(dir.join("log")).unwrap(), text);
    }
}

#[test]
fn two_runs_do_not_share_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("slow"), "echo 1 >> done; sleep 1000\n").unwrap();
    write_list(dir, 2);
    let mut command = std_exitring(["run", "-q", "--joblog", "log", "slow"]);
    let mut run = Started::new(command.current_dir(dir));
    wait_until("the first", || !numbers(&dir.join("done")).is_empty());
    let output = resume(dir, "--resume").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("another run is writing the job log"),
        "{output:?}"
    );
    common::signal(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
    // An interrupted job is not done.
    fs::write(dir.join("slow"), "echo 1 >> done; sleep 1000\n").unwrap();
    let text = fs::read_to_string(dir.join("log")).unwrap();
    assert_eq!(jobs(&text)[0]["interrupted"], true);
    let mut command = std_exitring(["run", "-q", "--joblog", "log", "--resume", "slow"]);
    let run = Started::new(command.current_dir(dir));
    wait_until("its second time", || numbers(&dir.join("done")).len() == 2);
    common::signal(&run.0, libc::SIGTERM);
    let mut run = run;
    assert_eq!(run.code(), Some(130));
}

#[test]
fn a_log_that_is_not_a_regular_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("list"), "touch ran\n").unwrap();
    // The other ends are open, so that the opens do not block.
    let script = |options: &str| {
        format!("mkfifo fifo; exec 9<> fifo; $EXITRING run -q {options} list; rm fifo")
    };
    for options in [
        "--joblog fifo",
        "--joblog >(cat > /dev/null 2>&1)",
        "--joblog fifo --resume",
        "--joblog fifo --resume --dry-run",
        "--rerun-failed fifo",
        "--shard 1/2 --durations fifo",
    ] {
        let output = common::shell(&script(options))
            .current_dir(dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("is not a regular file"), "{options}: {text}");
        assert!(!dir.path().join("ran").exists(), "{options}");
    }
    let output = common::shell(&script("--joblog /dev/null"))
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(output.status.success() && dir.path().join("ran").exists());
}

/// A failed job whose second attempt was interrupted: it is not done, and it has failed.
#[test]
fn a_failed_job_that_was_interrupted_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(
        dir.join("list"),
        "echo 1 >> done\necho 2 >> done; test -e good\n",
    )
    .unwrap();
    let mut first = exitring(["run", "-j1", "--joblog", "log", "list"]);
    assert_eq!(code(first.current_dir(dir)), Some(1));
    let log = fs::read_to_string(dir.join("log")).unwrap();
    let failed = log.lines().last().unwrap();
    let interrupted = failed.replace("\"interrupted\":false", "\"interrupted\":true");
    assert_ne!(interrupted, failed);
    fs::write(dir.join("log"), format!("{log}{interrupted}\n")).unwrap();
    fs::write(dir.join("good"), "").unwrap();
    let mut rerun = exitring(["run", "--rerun-failed", "log", "list"]);
    assert_eq!(code(rerun.current_dir(dir)), Some(0));
    assert_eq!(numbers(&dir.join("done")), [1, 2, 2]);
    assert_eq!(code(&mut resume(dir, "--resume")), Some(0));
    assert_eq!(numbers(&dir.join("done")), [1, 2, 2, 2]);
}
