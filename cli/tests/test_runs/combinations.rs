//! Options for test runs together with weights, groups, and other reports.

use std::fs;

use crate::common::{code, exitring, jobs, stdout};

#[test]
fn repeated_lines_have_their_comments_again() {
    let dir = tempfile::tempdir().unwrap();
    // Two jobs of the group that run at a time fail. The third line has an invalid comment.
    let exclusive = "mkdir busy && sleep 0.05 && rmdir busy #exitring: group=db\n";
    let list = format!("{exclusive}{exclusive}true #exitring: wieght=2\n");
    let mut run = exitring(["run", "-j4", "--repeat", "3", "--output", "jsonl"]);
    let output = run.current_dir(dir.path()).write_stdin(list);
    let output = String::from_utf8(output.output().unwrap().stdout).unwrap();
    let jobs = jobs(&output);
    assert_eq!(jobs.len(), 9, "{output}");
    for job in &jobs {
        let invalid = job["job"].as_u64().unwrap() % 3 == 0;
        let (command, exit_code) = match invalid {
            true => ("true #exitring: wieght=2", 126),
            false => ("mkdir busy && sleep 0.05 && rmdir busy", 0),
        };
        assert_eq!(job["command"], command, "{output}");
        assert_eq!(job["exit_code"], exit_code, "{output}");
    }
}

#[test]
fn a_job_that_waits_for_its_retry_does_not_keep_its_group_busy() {
    let dir = tempfile::tempdir().unwrap();
    // The retry succeeds only if the other job of the group has run.
    let list = "[ -e other ] #exitring: group=g\ntouch other #exitring: group=g\n";
    let mut run = exitring(["run", "-q", "-j2", "--retries", "1", "--retry-delay", "1s"]);
    assert_eq!(code(run.current_dir(dir.path()).write_stdin(list)), Some(0));
}

#[test]
fn a_job_that_waits_for_its_retry_has_no_token() {
    let dir = tempfile::tempdir().unwrap();
    // The inner run has only the token of its own job, and the outer one has none left.
    let list = "[ -e other ]\ntouch other\n";
    fs::write(dir.path().join("list"), list).unwrap();
    let mut run = exitring(["run", "-q", "-j1", "--jobserver"]);
    run.args(["--retries", "0", "--", "sh", "-c"]);
    run.args(["exec \"$0\" run -q --retries 1 --retry-delay 1s list"]);
    run.args([crate::common::EXITRING, ":::", "1"]);
    assert_eq!(code(run.current_dir(dir.path())), Some(0));
}

#[test]
fn all_reports_have_the_output_of_a_failed_job() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = exitring(["run", "-q", "--junit", "r.xml", "--report", "r.html"]);
    run.args(["--trace", "trace.json", "--retries", "1"]);
    let list = "printf '%s-%s\\n' of attempt$EXITRING_ATTEMPT; false\n";
    let output = stdout(run.current_dir(dir.path()).write_stdin(list));
    assert!(output.contains("of-attempt2"), "{output}");
    let read = |name| fs::read_to_string(dir.path().join(name)).unwrap();
    let junit = read("r.xml");
    assert!(
        junit.contains("of-attempt1") && junit.contains("of-attempt2"),
        "{junit}"
    );
    assert!(read("r.html").contains("of-attempt2"));
    let attempts = read("trace.json");
    assert!(
        attempts.contains("\"attempt\":1") && attempts.contains("\"attempt\":2"),
        "{attempts}"
    );
}

#[test]
fn the_test_report_is_no_other_file_of_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = exitring(["run", "--junit", "same", "--trace", "same"]);
    run.current_dir(dir.path()).write_stdin("touch ran\n");
    assert_eq!(code(&mut run), Some(2));
    assert!(!dir.path().join("ran").exists());
}
