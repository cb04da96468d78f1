//! The report of `--junit`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use quick_junit::{FlakyOrRerun, NonSuccessKind, Report, TestCase, TestCaseStatus};

use crate::common::{Started, code, exitring, signal, std_exitring, wait_until};

/// Reads a report. The parser removes line ends at the ends of texts.
pub(crate) fn read(path: &Path) -> Report {
    let text = fs::read_to_string(path).unwrap();
    Report::deserialize_from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The test cases, in the order of their names.
pub(crate) fn cases(report: &Report) -> Vec<&TestCase> {
    let suites = report.test_suites.iter();
    let mut cases: Vec<_> = suites.flat_map(|suite| &suite.test_cases).collect();
    cases.sort_by_key(|case| case.name.as_str());
    cases
}

/// The kind, the type and the message of a failure.
fn failure(case: &TestCase) -> (NonSuccessKind, &str, &str) {
    match &case.status {
        TestCaseStatus::NonSuccess {
            kind, message, ty, ..
        } => (
            *kind,
            ty.as_ref().unwrap().as_str(),
            message.as_ref().unwrap().as_str(),
        ),
        other => panic!("{}: {other:?}", case.name.as_str()),
    }
}

#[test]
fn jobs_are_test_cases_with_their_output_and_their_failures() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let list = "echo a; echo A >&2\n\
                echo b; exit 3\n\
                exec sleep 1000 # c\n\
                kill -USR1 $$ # d\n\
                /no/such/program\n";
    fs::write(dir.join("tests.txt"), list).unwrap();
    let mut run = exitring(["run", "-q", "--timeout", "2", "--junit", "report.xml"]);
    assert_eq!(code(run.arg("tests.txt").current_dir(dir)), Some(1));
    let report = read(&dir.join("report.xml"));
    assert_eq!((report.tests, report.failures, report.errors), (5, 3, 1));
    assert_eq!(report.test_suites.len(), 1);
    let suite = &report.test_suites[0];
    assert_eq!(suite.name.as_str(), "tests.txt");
    assert_eq!((suite.tests, suite.failures, suite.errors), (5, 3, 1));
    assert!(report.time.is_some() && report.timestamp.is_some());
    let cases = cases(&report);
    let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
    let mut lines: Vec<_> = list.lines().collect();
    lines.sort_unstable();
    assert_eq!(names, lines);
    for case in &cases {
        assert_eq!(case.classname.as_ref().unwrap().as_str(), "tests.txt");
        assert!(case.time.is_some() && case.timestamp.is_some());
    }
    let case = |start: &str| {
        let mut cases = cases.iter();
        cases.find(|case| case.name.starts_with(start)).unwrap()
    };
    let passed = case("echo a");
    assert_eq!(passed.status, TestCaseStatus::success());
    assert_eq!(passed.system_out.as_deref(), Some("a"));
    assert_eq!(passed.system_err.as_deref(), Some("A"));
    let failed = case("echo b");
    let expected = (NonSuccessKind::Failure, "exit code", "exit code 3");
    assert_eq!(failure(failed), expected);
    assert_eq!(failed.system_out.as_deref(), Some("b"));
    assert_eq!(failed.system_err, None);
    let (kind, ty, message) = failure(case("exec"));
    assert_eq!((kind, ty), (NonSuccessKind::Failure, "timeout"));
    assert_eq!(message, "timed out, signal 15 (SIGTERM)");
    let expected = (NonSuccessKind::Failure, "signal", "signal 10 (SIGUSR1)");
    assert_eq!(failure(case("kill")), expected);
    let (kind, ty, message) = failure(case("/no"));
    assert_eq!((kind, ty), (NonSuccessKind::Error, "not started"));
    assert!(message.contains("exit code 127"), "{message}");
}

#[test]
fn the_arguments_of_a_template_are_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = exitring(["run", "-q", "--junit", "r.xml", "--", "sh", "-c"]);
    let run = run.args(["exit $1", "sh", "{2}", ":::", "a", "b c", ":::", "0", "1"]);
    assert_eq!(code(run.current_dir(dir.path())), Some(1));
    let report = read(&dir.path().join("r.xml"));
    let names: Vec<_> = cases(&report)
        .iter()
        .map(|case| case.name.as_str().to_owned())
        .collect();
    assert_eq!(names, ["a 0", "a 1", "b c 0", "b c 1"]);
    assert_eq!(report.test_suites[0].name.as_str(), "sh -c exit $1 sh {2}");
    assert_eq!(report.failures, 2);
}

#[test]
fn attempts_before_a_success_are_flaky_failures_and_before_a_failure_reruns() {
    let dir = tempfile::tempdir().unwrap();
    let list = "echo n$EXITRING_ATTEMPT; [ $EXITRING_ATTEMPT = 3 ] # flaky\n\
                echo n$EXITRING_ATTEMPT; exit $EXITRING_ATTEMPT # failed\n";
    let mut run = exitring(["run", "-q", "--retries", "2", "--junit", "r.xml"]);
    assert_eq!(code(run.current_dir(dir.path()).write_stdin(list)), Some(1));
    let report = read(&dir.path().join("r.xml"));
    assert_eq!((report.tests, report.failures, report.errors), (2, 1, 0));
    let cases = cases(&report);
    let flaky = cases
        .iter()
        .find(|case| case.name.ends_with("flaky"))
        .unwrap();
    let TestCaseStatus::Success { flaky_runs } = &flaky.status else {
        panic!("{flaky:?}");
    };
    let outputs: Vec<_> = flaky_runs
        .iter()
        .map(|run| run.system_out.as_deref())
        .collect();
    assert_eq!(outputs, [Some("n1"), Some("n2")]);
    assert!(
        flaky_runs
            .iter()
            .all(|run| run.message.as_deref() == Some("exit code 1"))
    );
    assert_eq!(flaky.system_out.as_deref(), Some("n3"));
    let failed = cases
        .iter()
        .find(|case| case.name.ends_with("failed"))
        .unwrap();
    // The failure of the first attempt, and the others.
    assert_eq!(failure(failed).2, "exit code 1");
    assert_eq!(failed.system_out.as_deref(), Some("n1"));
    let TestCaseStatus::NonSuccess { reruns, .. } = &failed.status else {
        panic!("{failed:?}");
    };
    assert_eq!(reruns.kind, FlakyOrRerun::Rerun);
    let messages: Vec<_> = reruns
        .runs
        .iter()
        .map(|run| run.message.as_deref())
        .collect();
    assert_eq!(messages, [Some("exit code 2"), Some("exit code 3")]);
    assert_eq!(reruns.runs[1].ty.as_deref(), Some("exit code"));
}

#[test]
fn bytes_that_xml_cannot_represent_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let list =
        b"printf 'a\\377\\000\\033[31mred\\033[0m\\357\\277\\277<&]]>\\n' # \xff\x01<\"&'>\n";
    let mut run = exitring(["run", "-q", "--junit", "r.xml"]);
    assert_eq!(
        code(run.current_dir(dir.path()).write_stdin(&list[..])),
        Some(0)
    );
    let report = read(&dir.path().join("r.xml"));
    let case = cases(&report)[0];
    assert!(case.name.ends_with("# \\xff\\u{1}<\"&'>"), "{case:?}");
    assert_eq!(
        case.system_out.as_deref(),
        Some("a\u{fffd}red\u{fffd}<&]]>")
    );
}

#[test]
fn only_the_end_of_long_output_is_in_the_report() {
    for option in [None, Some("--log=logs")] {
        let dir = tempfile::tempdir().unwrap();
        let mut run = exitring(["run", "-q", "--junit", "r.xml"]);
        let run = run.args(option).current_dir(dir.path());
        let _ = run.write_stdin("seq 100000; seq 5 >&2\n").output().unwrap();
        let report = read(&dir.path().join("r.xml"));
        let case = cases(&report)[0];
        let out = case.system_out.as_deref().unwrap();
        // seq writes 588,895 bytes.
        assert!(
            out.starts_with("[556127 bytes before this are left out]\n"),
            "{out}"
        );
        assert!(out.ends_with("\n99999\n100000"));
        assert_eq!(
            case.system_err.as_deref(),
            Some("1\n2\n3\n4\n5"),
            "{option:?}"
        );
    }
}

#[test]
fn output_that_does_not_pass_through_is_not_in_the_report() {
    for option in ["--discard", "--append=all"] {
        let dir = tempfile::tempdir().unwrap();
        let mut run = exitring(["run", "-q", "--retries=1", "--junit", "r.xml", option]);
        let run = run.current_dir(dir.path());
        assert_eq!(
            code(run.write_stdin("echo a; exit $((2 - EXITRING_ATTEMPT))\n")),
            Some(0)
        );
        let report = read(&dir.path().join("r.xml"));
        let case = cases(&report)[0];
        assert_eq!(case.system_out, None);
        assert!(
            matches!(&case.status, TestCaseStatus::Success { flaky_runs } if flaky_runs.len() == 1),
            "{case:?}"
        );
    }
}

#[test]
fn the_report_replaces_a_file_as_a_whole_and_leaves_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("target.xml"), "old").unwrap();
    std::os::unix::fs::symlink("target.xml", dir.join("r.xml")).unwrap();
    fs::create_dir(dir.join("elsewhere")).unwrap();
    // The job sees the old file.
    let mut run = exitring(["run", "-q", "--junit", "r.xml", "--cwd", "elsewhere"]);
    let run = run.current_dir(dir).write_stdin("grep -qx old ../r.xml\n");
    assert_eq!(code(run), Some(0));
    assert_eq!(read(&dir.join("target.xml")).tests, 1);
    assert!(
        fs::symlink_metadata(dir.join("r.xml"))
            .unwrap()
            .is_symlink()
    );
    let entries = fs::read_dir(dir).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["elsewhere", "r.xml", "target.xml"]);
    let mode = |name: &str| fs::metadata(dir.join(name)).unwrap().permissions().mode();
    fs::write(dir.join("usual"), "").unwrap();
    assert_eq!(mode("target.xml"), mode("usual"));
}

#[test]
fn a_path_that_cannot_be_written_is_refused_before_any_job_runs() {
    let dir = tempfile::tempdir().unwrap();
    for (path, why) in [
        ("missing/r.xml", "No such file or directory"),
        (".", "is not a regular file"),
        ("/dev/null", "is not a regular file"),
        ("/", "is not a regular file"),
        ("/proc/r.xml", "cannot write the report /proc/r.xml"),
        ("list/r.xml", "Not a directory"),
        ("list", "--junit and the list name the same file"),
    ] {
        fs::write(dir.path().join("list"), "touch ran\n").unwrap();
        let mut run = exitring(["run", "--junit", path, "list"]);
        let output = run.current_dir(dir.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{path}: {text}");
        assert!(text.contains(why), "{path}: {text}");
        assert!(!dir.path().join("ran").exists(), "{path}");
    }
}

#[test]
fn a_directory_that_is_removed_meanwhile_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("out")).unwrap();
    let mut run = exitring(["run", "-q", "--junit", "out/r.xml"]);
    let run = run.current_dir(dir.path()).write_stdin("rmdir out\n");
    let output = run.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("cannot write the report"), "{text}");
}

#[test]
fn an_interrupted_run_has_a_report_too() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("list"), "touch started; sleep 1000\n").unwrap();
    let mut command = std_exitring(["run", "-q", "--junit", "r.xml", "list"]);
    let mut run = Started::new(command.current_dir(dir));
    wait_until("the job", || dir.join("started").exists());
    signal(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
    let report = read(&dir.join("r.xml"));
    assert_eq!((report.tests, report.errors), (1, 1));
    let (kind, ty, _) = failure(cases(&report)[0]);
    assert_eq!((kind, ty), (NonSuccessKind::Error, "interrupted"));
}

#[test]
fn a_run_without_jobs_has_a_report_without_cases() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = exitring(["run", "-q", "--junit", "r.xml"]);
    assert_eq!(code(run.current_dir(dir.path()).write_stdin("")), Some(0));
    let report = read(&dir.path().join("r.xml"));
    assert_eq!((report.tests, cases(&report).len()), (0, 0));
}

#[test]
fn a_fifo_in_place_of_a_log_file_does_not_block_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let list = "rm logs/1.out logs/1.err; mkfifo logs/1.out; echo late > logs/1.err; false\n";
    let mut run = exitring(["run", "-q", "--log", "logs", "--junit", "r.xml"]);
    let run = run.current_dir(dir.path()).write_stdin(list);
    assert_eq!(code(run), Some(1));
    let report = read(&dir.path().join("r.xml"));
    let case = cases(&report)[0];
    let text = |output: &Option<quick_junit::XmlString>| {
        output.as_ref().map(|text| text.as_str().trim().to_owned())
    };
    assert_eq!(text(&case.system_out), None);
    assert_eq!(text(&case.system_err).as_deref(), Some("late"));
}
