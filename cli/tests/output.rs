//! The output of jobs, by whole lines.

mod common;

use std::fs;

use common::{exitring, jobs, records, shell, stdout};

#[test]
fn lines_of_different_jobs_do_not_mix() {
    // Each job writes lines in small pieces, many jobs at once.
    let job = "for i in 1 2 3 4 5; do printf 'aaaa'; printf 'bbbb'; printf 'cccc\\n'; done";
    let list = format!("{job}\n").repeat(200);
    let output = stdout(exitring(["run", "-j", "16"]).write_stdin(list));
    assert_eq!(output.lines().count(), 1000);
    assert!(output.lines().all(|line| line == "aaaabbbbcccc"));
}

#[test]
fn the_output_of_each_attempt_is_forwarded() {
    let dir = tempfile::tempdir().unwrap();
    let list: String = (1..=500)
        .map(|number| format!("echo x; [ -e {number} ] || {{ touch {number}; exit 1; }}\n"))
        .collect();
    let mut run = exitring(["run", "-q", "-j", "8", "--retries", "1"]);
    let output = run
        .current_dir(dir.path())
        .write_stdin(list)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).lines().count(),
        1000
    );
}

#[test]
fn output_and_errors_stay_separate_and_incomplete_lines_get_a_line_end() {
    let output = exitring(["run", "-j1", "-q"])
        .write_stdin("printf out; printf err >&2\nprintf more\n")
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"out\nmore\n");
    assert_eq!(output.stderr, b"err\n");
}

#[test]
fn large_output_is_complete() {
    let output = exitring(["run", "-j2", "-q"])
        .write_stdin("seq 200000\nhead -c 3000000 /dev/zero\n")
        .output()
        .unwrap();
    let bytes = output.stdout;
    assert_eq!(bytes.iter().filter(|&&byte| byte == 0).count(), 3_000_000);
    let digits: usize = (1..=200_000)
        .map(|number: u32| number.to_string().len())
        .sum();
    assert_eq!(
        bytes.iter().filter(|byte| byte.is_ascii_digit()).count(),
        digits
    );
}

#[test]
fn long_lines_of_different_jobs_do_not_mix() {
    let line = |letter| format!("head -c 700000 /dev/zero | tr '\\0' {letter}; echo\n");
    let list: String = "abcdefgh".chars().map(line).collect();
    let output = stdout(exitring(["run", "-q", "-j8"]).write_stdin(list.clone()));
    assert_eq!(output.lines().count(), 8);
    for line in output.lines() {
        assert_eq!(line.len(), 700_000);
        assert!(line.bytes().all(|byte| byte == line.as_bytes()[0]));
    }
    // Longer lines are forwarded piece by piece, and no other output is written meanwhile.
    let list = list
        .replace("700000", "3000000")
        .replace("; echo", "; echo; echo short >&2");
    for both in ["", "2>&1"] {
        let output = shell(&format!("$EXITRING run -q -j8 {both}"))
            .write_stdin(list.clone())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (short, long): (Vec<_>, Vec<_>) = text.lines().partition(|line| *line == "short");
        assert_eq!(
            (short.len(), long.len()),
            (if both.is_empty() { 0 } else { 8 }, 8)
        );
        for line in long {
            assert_eq!(line.len(), 3_000_000);
            assert!(line.bytes().all(|byte| byte == line.as_bytes()[0]));
        }
    }
}

#[test]
fn a_long_line_is_forwarded_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    for (name, size) in [("a", 1024 * 1024), ("b", 1024 * 1024 - 1), ("c", 3_000_000)] {
        let mut line: Vec<_> = (0..size)
            .map(|at| b"0123456789abcdef\xff\r\0"[at % 19])
            .collect();
        line.push(b'\n');
        fs::write(dir.path().join(name), line).unwrap();
    }
    let mut run = exitring(["run", "-q", "-j1"]);
    let output = run
        .current_dir(dir.path())
        .write_stdin("cat a\ncat b\ncat c\ncat a c b\n")
        .output()
        .unwrap();
    assert_eq!(output.stderr, b"");
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    let expected = ["a", "b", "c", "a", "c", "b"].map(read).concat();
    assert!(output.stdout == expected, "{} bytes", output.stdout.len());
    // Only the missing line end is added.
    let mut run = exitring(["run", "-q", "-j1"]);
    let output = stdout(run.write_stdin("head -c 3000000 /dev/zero | tr '\\0' x\nprintf y\n"));
    assert!(
        output == "x".repeat(3_000_000) + "\ny\n",
        "{} bytes",
        output.len()
    );
}

#[test]
fn a_long_line_without_progress_is_split_with_a_message_while_others_wait() {
    // The first job waits, in the middle of its line, for the output of the second job.
    let dir = tempfile::tempdir().unwrap();
    let list = "head -c 2000000 /dev/zero | tr '\\0' x; touch begun; until grep -q seen out; do sleep 0.05; done; echo end\n\
                until [ -e begun ]; do sleep 0.05; done; echo seen\n";
    let output = shell("$EXITRING run -q -j2 > out")
        .write_stdin(list)
        .current_dir(dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        text.matches("job 1: a line longer than 1 MiB was split")
            .count(),
        1,
        "{text}"
    );
    let text = fs::read_to_string(dir.path().join("out")).unwrap();
    assert!(
        text == "x".repeat(2_000_000) + "\nseen\nend\n",
        "{} bytes",
        text.len()
    );
}

#[test]
fn messages_are_ascii_in_an_ascii_locale() {
    let long = format!("true {}\nfalse {}\n", "x".repeat(200), "y".repeat(200));
    for (locale, ascii) in [("C", true), ("C.UTF-8", false)] {
        let text = common::stderr(
            exitring(["run"])
                .env("LC_ALL", locale)
                .write_stdin(long.clone()),
        );
        assert_eq!(text.is_ascii(), ascii, "{text}");
    }
}

#[test]
fn background_processes_do_not_delay_the_end_of_a_job() {
    // The sleeper has the pipes open, and its pid is in the output.
    let output =
        stdout(exitring(["run", "--output", "jsonl"]).write_stdin("sleep 1000 & echo $!\n"));
    let all = records(&output);
    let sleeper: i32 = all[0]["line"].as_str().unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(sleeper).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)
        .expect("the sleeper still runs");
    assert_eq!(jobs(&output)[0]["success"], true);
    assert!(jobs(&output)[0]["wall_seconds"].as_f64().unwrap() < 900.0);
}

#[test]
fn the_summary_shows_counts_and_failed_jobs() {
    let text = common::stderr(exitring(["run"]).write_stdin("true\nexit 7\nsleep 0.1\n"));
    for words in [
        "2 succeeded",
        "1 failed",
        "p99",
        "job 2: exit code 7: exit 7",
        "slowest\n",
        "job 3: ",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours without a terminal");
}

#[test]
fn messages_do_not_interrupt_a_long_line_of_standard_error() {
    let dir = tempfile::tempdir().unwrap();
    let line = r"head -c 1500000 /dev/zero | tr '\0' x >&2; sleep 1.5; echo END >&2";
    let script = "echo \"$0\" | $EXITRING run -q --slow-after 1s >out 2>err";
    let mut run = shell(script);
    run.arg(line).current_dir(dir.path()).assert().success();
    let err = std::fs::read_to_string(dir.path().join("err")).unwrap();
    let mut lines: Vec<_> = err.lines().collect();
    lines.sort_by_key(|line| line.len());
    let [message, long] = lines[..] else {
        panic!("{} lines", lines.len());
    };
    assert!(message.contains("is slow"), "{message}");
    assert_eq!((long.len(), &long[1_500_000..]), (1_500_003, "END"));
}
