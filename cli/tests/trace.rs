//! `--trace`: the trace of a run.

mod common;

use std::fs;
use std::process::Stdio;

use common::{Started, code, exitring, shell, signal, std_exitring, stderr, wait_until};
use serde_json::Value;

fn events(text: &str, kind: &str) -> Vec<Value> {
    let all: Vec<Value> =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    all.into_iter()
        .filter(|event| event["ph"] == kind)
        .collect()
}

#[test]
fn each_attempt_is_an_event_on_the_lane_of_its_slot() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = exitring([
        "run",
        "-q",
        "-j",
        "2",
        "--retries",
        "1",
        "--timeout",
        "3s",
        "--grace",
        "100ms",
        "--trace",
        "trace",
    ]);
    let list =
        "true\nsh -c 'exit 3'\nsleep 1000\n/does/not/exist\necho '\u{1f980}' '</x>' \"\\\"\"\n";
    let output = run
        .current_dir(dir.path())
        .write_stdin(list)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = fs::read_to_string(dir.path().join("trace")).unwrap();
    let mut attempts = events(&text, "X");
    attempts.sort_by_key(|event| {
        let args = &event["args"];
        (args["job"].as_u64(), args["attempt"].as_u64())
    });
    let seen = attempts.iter().map(|event| {
        let args = &event["args"];
        (
            args["job"].as_u64().unwrap(),
            args["attempt"].as_u64().unwrap(),
            event["cat"].as_str().unwrap(),
        )
    });
    let expected = [
        (1, 1, "succeeded"),
        (2, 1, "failed,retried"),
        (2, 2, "failed"),
        (3, 1, "failed,retried"),
        (3, 2, "failed"),
        (4, 1, "failed"),
        (5, 1, "succeeded"),
    ];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
    assert_eq!(attempts[1]["args"]["exit_code"], 3);
    assert_eq!(attempts[1]["args"]["command"], "sh -c 'exit 3'");
    assert_eq!(attempts[1]["name"], "sh -c 'exit 3'");
    assert!(attempts[0]["args"]["cpu_seconds"].is_number());
    assert!(attempts[0]["args"]["max_rss_bytes"].as_u64().unwrap() > 0);
    assert_eq!(attempts[3]["args"]["signal"], 15);
    assert_eq!(attempts[5]["args"]["exit_code"], 127);
    assert!(attempts[5]["args"]["max_rss_bytes"].is_null());
    // The lanes: at most one attempt at a time on each.
    for slot in [1, 2] {
        let mut spans: Vec<_> = attempts
            .iter()
            .filter(|event| event["tid"] == slot)
            .map(|event| {
                (
                    event["ts"].as_u64().unwrap(),
                    event["dur"].as_u64().unwrap(),
                )
            })
            .collect();
        spans.sort_unstable();
        assert!(
            spans
                .windows(2)
                .all(|pair| pair[0].0 + pair[0].1 <= pair[1].0),
            "{text}"
        );
    }
    let names = events(&text, "M");
    let names: Vec<_> = names
        .iter()
        .map(|event| event["args"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["exitring run", "slot 1", "slot 2"]);
    // Each timeout is marked at its time.
    let marks = events(&text, "i");
    assert_eq!(marks.len(), 2, "{text}");
    for (mark, attempt) in marks.iter().zip(&attempts[3..5]) {
        assert_eq!(mark["name"], "timeout of job 3");
        let [begun, marked] = [attempt, mark].map(|event| event["ts"].as_u64().unwrap());
        assert_eq!(marked, begun + 3_000_000);
    }
}

#[test]
fn a_trace_can_be_read_while_the_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let mut command = std_exitring([
        "run",
        "-q",
        "-j",
        "1",
        "--trace",
        "trace",
        "--",
        "sh",
        "-c",
        "test $0 = 1 || sleep 1000",
        ":::",
        "1",
        "2",
    ]);
    let mut run = Started::new(command.current_dir(dir.path()));
    let mut text = String::new();
    wait_until("the first job in the trace", || {
        text = fs::read_to_string(&trace).unwrap_or_default();
        text.contains("\"ph\":\"X\"")
    });
    // Only the bracket at the end is absent.
    assert_eq!(events(&format!("{text}]"), "X").len(), 1);
    signal(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
    let text = fs::read_to_string(&trace).unwrap();
    let attempts = events(&text, "X");
    assert_eq!(attempts[1]["cat"], "interrupted");
    assert_eq!(events(&text, "i")[0]["name"], "interrupted (SIGTERM)");
}

#[test]
fn an_earlier_trace_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    fs::write(&trace, "x".repeat(100_000)).unwrap();
    let mut run = exitring(["run", "-q", "--trace", "trace"]);
    assert_eq!(
        code(run.current_dir(dir.path()).write_stdin("true\n")),
        Some(0)
    );
    assert_eq!(events(&fs::read_to_string(&trace).unwrap(), "X").len(), 1);
}

#[test]
fn files_that_cannot_be_used_are_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("dir")).unwrap();
    fs::write(path("list"), "touch ran\n").unwrap();
    std::os::unix::fs::symlink("later", path("link")).unwrap();
    let cases = [
        ("--trace dir list", "cannot open the trace dir"),
        (
            "--trace absent/trace list",
            "cannot open the trace absent/trace",
        ),
        ("--trace fifo list", "not a regular file"),
        (
            "--trace list list",
            "--trace and the list name the same file",
        ),
        (
            "--trace ./dir/../list - < list",
            "--trace and standard input",
        ),
        ("--trace log --joblog ./log list", "--trace and --joblog"),
        ("--trace link --joblog later list", "--trace and --joblog"),
        ("--trace all --append all list", "--trace and --append"),
        ("--trace out list > out", "--trace and standard output"),
        ("--trace dir/1.out --log dir list", "--trace and --log"),
    ];
    shell("mkfifo fifo")
        .current_dir(dir.path())
        .assert()
        .success();
    for (arguments, cause) in cases {
        let mut run = shell(&format!("$EXITRING run -q {arguments}"));
        let output = run.current_dir(dir.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {text}");
        assert!(text.contains(cause), "{arguments}: {text}");
        assert!(!path("ran").exists(), "{arguments}");
        assert_eq!(fs::read_to_string(path("list")).unwrap(), "touch ran\n");
    }
}

#[test]
fn a_trace_that_another_run_writes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = std_exitring([
        "run", "-q", "--trace", "trace", "--", "sleep", ":::", "1000",
    ]);
    let mut first = Started::new(first.current_dir(dir.path()).stdout(Stdio::null()));
    wait_until("the trace", || {
        fs::metadata(dir.path().join("trace")).is_ok_and(|file| file.len() > 0)
    });
    let mut second = exitring(["run", "-q", "--trace", "trace", "--", "true", ":::", "1"]);
    let text = stderr(second.current_dir(dir.path()));
    assert!(text.contains("another run is writing the trace"), "{text}");
    signal(&first.0, libc::SIGTERM);
    assert_eq!(first.code(), Some(130));
}

#[test]
fn a_full_disk_is_reported_once_and_the_jobs_run() {
    let dir = tempfile::tempdir().unwrap();
    for (trace, failing, expected) in [
        ("--trace /dev/full", "", 3),
        // What the jobs came to is more important.
        ("--trace /dev/full", "false", 1),
        ("--trace trace", "", 3),
    ] {
        let script = format!(
            "ulimit -f 4; (seq 1 200 | sed 's/.*/true/'; echo {failing}) | $EXITRING run -q --output jsonl {trace} | grep -c '\"job\"'; \
             echo code ${{PIPESTATUS[1]}}"
        );
        let output = shell(&script).current_dir(dir.path()).output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        let text = String::from_utf8_lossy(&output.stderr);
        let jobs = if failing.is_empty() { 200 } else { 201 };
        assert_eq!(out, format!("{jobs}\ncode {expected}\n"), "{trace}: {text}");
        assert_eq!(text.matches("cannot write the trace").count(), 1, "{text}");
    }
    // What was written before is whole.
    let text = fs::read_to_string(dir.path().join("trace")).unwrap();
    assert!(!events(&format!("{text}]"), "X").is_empty());
}

#[test]
fn flaky_slow_and_repeated_jobs_have_categories_and_arguments() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = exitring(["run", "-q", "-j1", "--retries", "1", "--repeat", "2"]);
    let run = run.args(["--slow-after", "100ms", "--trace", "trace"]);
    let list = "test $EXITRING_ATTEMPT = 2\nsleep 0.2\n";
    let output = run.current_dir(dir.path()).write_stdin(list).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = fs::read_to_string(dir.path().join("trace")).unwrap();
    for (job, repeat) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        let of_job = events(&text, "X").into_iter();
        let mut of_job: Vec<_> = of_job.filter(|event| event["args"]["job"] == job).collect();
        of_job.sort_by_key(|event| event["args"]["attempt"].as_u64());
        assert!(of_job.iter().all(|event| event["args"]["repeat"] == repeat));
        let last = of_job.pop().unwrap();
        // A busy machine may make other jobs slow, too.
        let has = |category: &str| {
            last["cat"]
                .as_str()
                .unwrap()
                .split(',')
                .any(|one| one == category)
        };
        let flaky = job % 2 == 1;
        assert!(has("succeeded") && has("flaky") == flaky && last["args"]["flaky"] == flaky);
        assert!(
            flaky || has("slow") && last["args"]["slow"] == true,
            "{last}"
        );
        let before: Vec<_> = of_job
            .iter()
            .map(|event| event["cat"].as_str().unwrap())
            .collect();
        assert_eq!(before.len(), usize::from(flaky));
        assert!(before.iter().all(|cat| cat.starts_with("failed,retried")));
    }
}
