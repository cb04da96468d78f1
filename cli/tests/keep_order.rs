//! `--keep-order` and `--tag`.

mod common;

use std::fs;

use common::{Started, exitring, jobs, records, shell, signal, std_exitring, stdout, wait_until};

/// Each job ends before the one before it in the list.
const REVERSED: &str = "until [ -e $(($1 + 1)) ] || [ $1 = 5 ]; do sleep 0.01; done; echo out $1; echo err $1 >&2; touch $1";

#[test]
fn output_is_in_the_order_of_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = exitring(["run", "-q", "-k", "-j5", "--", "sh", "-c", REVERSED, "sh"]);
    let run = run.args([":::", "1", "2", "3", "4", "5"]);
    let output = run.current_dir(dir.path()).output().unwrap();
    let lines = |word: &str| (1..=5).map(|n| format!("{word} {n}\n")).collect::<String>();
    assert_eq!(String::from_utf8_lossy(&output.stdout), lines("out"));
    assert_eq!(String::from_utf8_lossy(&output.stderr), lines("err"));
}

#[test]
fn the_first_job_is_forwarded_while_it_runs() {
    // The first job ends when its line has arrived, and the second one has ended by then.
    let dir = tempfile::tempdir().unwrap();
    let list = "echo first; until grep -q first out && [ -e two ]; do sleep 0.01; done; ! grep -q second out\necho second; touch two\n";
    let script = "$EXITRING run -q -k -j2 > out; echo $? >> out";
    let mut run = shell(script);
    let run = run.current_dir(dir.path()).write_stdin(list);
    run.assert().success();
    let text = fs::read_to_string(dir.path().join("out")).unwrap();
    assert_eq!(text, "first\nsecond\n0\n");
}

#[test]
fn records_and_attempts_are_in_the_order_of_the_list() {
    let dir = tempfile::tempdir().unwrap();
    // The first job fails once, after the second one has ended.
    let list = "until [ -e two ]; do sleep 0.01; done; echo one; [ $EXITRING_ATTEMPT = 2 ]\necho two; touch two\nno-such-command-here\n";
    let mut run = exitring(["run", "-k", "-j3", "--retries", "1", "--output", "jsonl"]);
    let run = run.args(["--joblog", "log", "--shard", "1/1"]);
    let output = stdout(run.current_dir(dir.path()).write_stdin(list));
    let all: Vec<_> = records(&output)
        .iter()
        .map(|it| {
            let kind = it["type"].as_str().unwrap().to_owned();
            (kind, it["job"].as_u64().unwrap(), it["attempt"].as_u64())
        })
        .collect();
    let line = |job, attempt| ("output".to_owned(), job, Some(attempt));
    let end = |job| ("job".to_owned(), job, None);
    assert_eq!(
        all,
        [line(1, 1), line(1, 2), end(1), line(2, 1), end(2), end(3)]
    );
    // A record enters the job log after the output of its job.
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    let logged: Vec<_> = records(&log)
        .iter()
        .map(|it| it["job"].as_u64().unwrap())
        .collect();
    assert_eq!(logged, [1, 2, 3]);
}

#[test]
fn large_output_waits_in_a_file_and_memory_is_bounded() {
    // The first job waits until the others, which write 60 MB, have ended.
    let dir = tempfile::tempdir().unwrap();
    let list = format!(
        "until [ $(ls ended.* 2>/dev/null | wc -l) = 6 ]; do sleep 0.02; done; grep VmHWM /proc/$PPID/status\n{}",
        (1..=6)
            .map(|n| format!("yes {n}23456789 | head -c 10000000; touch ended.{n}\n"))
            .collect::<String>()
    );
    let mut run = exitring(["run", "-q", "-k", "-j7", "--shell", "sh"]);
    let output = stdout(run.current_dir(dir.path()).write_stdin(list));
    let (first, rest) = output.split_once('\n').unwrap();
    let peak: u64 = first.split_whitespace().nth(1).unwrap().parse().unwrap();
    // The unlinked file has most of the output.
    assert!(peak < 60_000, "{first}");
    let expected: String = (1..=6)
        .map(|n| format!("{n}23456789\n").repeat(1_000_000))
        .collect();
    assert!(rest == expected, "{} bytes", rest.len());
}

#[test]
fn an_interrupted_run_prints_what_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list");
    fs::write(
        &list,
        "echo one; touch one; sleep 1000\necho two; touch two\necho three; touch three\nsleep 1000\n",
    )
    .unwrap();
    let mut command = std_exitring(["run", "-k", "-q", "-j4", "list"]);
    command.stdout(fs::File::create(dir.path().join("out")).unwrap());
    let mut run = Started::new(command.current_dir(dir.path()));
    wait_until("the jobs", || {
        ["one", "two", "three"]
            .iter()
            .all(|name| dir.path().join(name).exists())
    });
    signal(&run.0, libc::SIGINT);
    assert_eq!(run.code(), Some(130));
    let text = fs::read_to_string(dir.path().join("out")).unwrap();
    assert_eq!(text, "one\ntwo\nthree\n");
}

#[test]
fn fail_fast_prints_what_waits_in_the_order_of_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let list = "until [ -e three ]; do sleep 0.01; done; sleep 0.3; echo one\necho two; touch two\n\
                until [ -e two ]; do sleep 0.01; done; echo three; touch three; exit 1\necho never\n";
    let mut run = exitring(["run", "-k", "-q", "-j2", "--fail-fast"]);
    let output = stdout(run.current_dir(dir.path()).write_stdin(list));
    assert!(
        output == "one\ntwo\nthree\n" || output == "one\ntwo\nthree\nnever\n",
        "{output}"
    );
}

#[test]
fn long_lines_stay_whole_in_the_order_of_the_list() {
    let line = |letter| {
        format!("head -c 3000000 /dev/zero | tr '\\0' {letter}; echo; echo {letter} >&2\n")
    };
    let list: String = "abcd".chars().map(line).collect();
    let output = shell("$EXITRING run -q -k -j4 2> err; cat err")
        .current_dir(tempfile::tempdir().unwrap().path())
        .write_stdin(list)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let expected: String = "abcd"
        .chars()
        .map(|letter| letter.to_string().repeat(3_000_000) + "\n")
        .collect();
    assert!(text == expected + "a\nb\nc\nd\n", "{} bytes", text.len());
}

#[test]
fn output_of_a_background_process_waits_for_the_turn_of_its_job() {
    // The second job leaves a process that writes before the first job has ended.
    let dir = tempfile::tempdir().unwrap();
    let list = "until [ -e late ]; do sleep 0.01; done; echo one\n\
                echo two; (sleep 0.3; echo late; touch late) &\necho three\n";
    let mut run = exitring(["run", "-k", "-q", "-j3"]);
    let output = stdout(run.current_dir(dir.path()).write_stdin(list));
    assert_eq!(output, "one\ntwo\nlate\nthree\n");
}

#[test]
fn a_full_disk_for_waiting_output_ends_the_run() {
    // No temporary file can be created there.
    let list = format!("sleep 1000\n{}", "yes x | head -c 1000000\n".repeat(2));
    let mut run = exitring(["run", "-q", "-k", "-j3"]);
    let output = run.env("TMPDIR", "/no/such/dir").write_stdin(list).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("output that waits for its turn"), "{text}");
    assert!(text.contains("/no/such/dir"), "{text}");
}

#[test]
fn what_waits_in_memory_is_printed_if_no_file_can_be_created() {
    let dir = tempfile::tempdir().unwrap();
    // The first job ends last. The second one fits into memory, and the others do not.
    let job = "case $0 in 1) until [ -e ended ]; do sleep 0.01; done;; 2) echo two;; *) yes $0 | head -c 3000000; touch ended;; esac";
    let run = |option: &[&str]| {
        let mut run = exitring(["run", "-q", "-k", "-j4", "--joblog", "log"]);
        run.args(option)
            .args(["--", "sh", "-c", job, "{}", ":::", "1", "2", "3", "4"]);
        run.current_dir(dir.path());
        run
    };
    let output = run(&[]).env("TMPDIR", "/no/such/dir").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let first = String::from_utf8_lossy(&output.stdout);
    let log = jobs(&fs::read_to_string(dir.path().join("log")).unwrap());
    let rest = stdout(&mut run(&["--resume"]));
    // What is in the log has printed all of its output, and the others do so now.
    for (number, line, lines) in [
        (2, "two\n", 1),
        (3, "3\n", 1_500_000),
        (4, "4\n", 1_500_000),
    ] {
        let done = log
            .iter()
            .any(|job| job["job"] == number && job["success"] == true);
        let printed = if done { &first } else { &*rest };
        assert_eq!(printed.matches(line).count(), lines, "{number}, {done}");
    }
    assert!(log.iter().filter(|job| job["success"] == true).count() < 3);
}

#[test]
fn after_a_kill_jobs_run_again_whose_output_waited() {
    let dir = tempfile::tempdir().unwrap();
    let job = "[ $0 != 1 ] || until [ -e go ]; do sleep 0.01; done; echo out $0";
    let command = |option: &[&str]| {
        let mut run = std_exitring(["run", "-q", "-k", "-j4", "--joblog", "log"]);
        run.args(option)
            .args(["--", "sh", "-c", job, "{}", ":::", "1", "2", "3", "4"]);
        run.current_dir(dir.path());
        run
    };
    let mut run = Started::new(command(&[]).stdout(std::process::Stdio::null()));
    let children = format!("/proc/{}/task", run.0.id());
    wait_until("one job is left", || {
        let tasks = fs::read_dir(&children).unwrap().flatten();
        let children =
            tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        let children: Vec<String> = children
            .flat_map(|line| {
                line.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .collect();
        // The shell of the first job, after the others have been reaped.
        children.len() == 1
            && fs::read(format!("/proc/{}/cmdline", children[0]))
                .is_ok_and(|words| words.ends_with(b"\x001\0"))
    });
    signal(&run.0, libc::SIGKILL);
    assert_eq!(run.code(), Some(128 + libc::SIGKILL));
    fs::write(dir.path().join("go"), "").unwrap();
    let rest = command(&["--resume"]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&rest.stdout),
        "out 1\nout 2\nout 3\nout 4\n"
    );
}

#[test]
fn options_without_an_order_or_a_tag_are_refused() {
    for (options, why) in [
        ("-k --inherit", "--keep-order cannot"),
        ("-k --append x", "--keep-order cannot"),
        ("--tag --log x", "--tag cannot"),
        ("--tagstring x --discard", "--tag cannot"),
        ("--tag --tagstring x", "cannot be used with"),
        ("--tagstring {2}", "{2} is not a placeholder"),
    ] {
        let mut run = exitring(["run"]);
        let output = run.args(options.split(' ')).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{options}: {text}");
        assert!(text.contains(why), "{options}: {text}");
    }
}

#[test]
fn each_line_begins_with_the_tag() {
    let job = "printf \"1\\n2\\n\\n\"; printf 3; echo e >&2";
    let mut run = exitring([
        "run", "-q", "-j1", "--tag", "--", "sh", "-c", job, "sh", "{}",
    ]);
    let output = run.args([":::", "a b", "c", ":::", "x"]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "a b x\t1\na b x\t2\na b x\t\na b x\t3\nc x\t1\nc x\t2\nc x\t\nc x\t3\n"
    );
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "a b x\te\nc x\te\n"
    );
    let mut run = exitring([
        "run",
        "-q",
        "-j1",
        "--tagstring",
        "{#}/{%}/{1/.}",
        "-k",
        "-n2",
    ]);
    let run = run.args(["--", "echo", "{}", ":::", "d/a.c", "b", "e"]);
    assert_eq!(stdout(run), "1/1/a\td/a.c b\n2/1/e\te\n");
    let mut run = exitring(["run", "-q", "-j1", "--tag"]);
    assert_eq!(
        stdout(run.write_stdin("echo  x\necho y;\n")),
        "echo  x\tx\necho y;\ty\n"
    );
    let mut run = exitring(["run", "-q", "-0", "--tag", "--", "printf", "x{}"]);
    assert_eq!(stdout(run.write_stdin("a\nb")), "a b\txa\na b\tb\n");
}

#[test]
fn a_long_line_has_one_tag() {
    let mut run = exitring(["run", "-q", "--tag"]);
    let list = "head -c 3000000 /dev/zero | tr '\\0' x; echo y; echo z";
    let output = stdout(run.write_stdin(list));
    let expected = format!("{list}\t{}y\n{list}\tz\n", "x".repeat(3_000_000));
    assert!(output == expected, "{} bytes", output.len());
}

#[test]
fn a_long_tag_ends_with_a_whole_character() {
    let mut run = exitring(["run", "-q", "--tag", "--", "echo", "x"]);
    let argument = format!("x{}", "é".repeat(600));
    let output = stdout(run.args([":::", &argument]));
    assert_eq!(output, format!("x{}\tx {argument}\n", "é".repeat(511)));
}

#[test]
fn records_have_the_tag() {
    let mut run = exitring(["run", "-q", "--output", "jsonl", "--tag", "--", "echo", "x"]);
    let output = stdout(run.args([":::", "a"]));
    assert_eq!(records(&output)[0]["tag"], "a");
    assert_eq!(jobs(&output).len(), 1);
    let mut run = exitring(["run", "-q", "--output", "jsonl", "--", "echo", ":::", "a"]);
    assert!(records(&stdout(&mut run))[0].get("tag").is_none());
}
