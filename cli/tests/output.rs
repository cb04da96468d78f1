//! Where what jobs write goes.

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{Started, exitring, jobs, records, shell, signal, stdout, wait_until};

#[test]
fn lines_are_never_torn() {
    // Each job writes lines in small pieces, many jobs at once.
    let job = "for i in 1 2 3 4 5; do printf 'aaaa'; printf 'bbbb'; printf 'cccc\\n'; done";
    let list = format!("{job}\n").repeat(200);
    let output = stdout(exitring(["run", "-j", "16"]).write_stdin(list));
    assert_eq!(output.lines().count(), 1000);
    assert!(output.lines().all(|line| line == "aaaabbbbcccc"));
}

#[test]
fn what_each_attempt_writes_comes_through() {
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
fn output_and_errors_keep_apart_and_unended_lines_get_an_end() {
    let output = exitring(["run", "-j1", "-q"])
        .write_stdin("printf out; printf err >&2\nprintf more\n")
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"out\nmore\n");
    assert_eq!(output.stderr, b"err\n");
}

#[test]
fn much_output_comes_whole() {
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
fn records_have_lines_and_come_after_what_their_job_wrote() {
    let list = "echo a; echo b >&2; printf '\\377'\n";
    let records = records(&stdout(
        exitring(["run", "--output", "jsonl"]).write_stdin(list),
    ));
    let kinds: Vec<_> = records
        .iter()
        .map(|record| record["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["output", "output", "output", "job"]);
    let lines: BTreeMap<_, _> = records[..3]
        .iter()
        .map(|record| {
            (
                record["line"].as_str().unwrap(),
                record["stream"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        lines,
        BTreeMap::from([("a", "stdout"), ("b", "stderr"), ("\u{fffd}", "stdout")])
    );
    assert!(records.iter().all(|record| record["job"] == 1));
}

#[test]
fn lines_of_megabytes_do_not_mix_either() {
    let line = |letter| format!("head -c 700000 /dev/zero | tr '\\0' {letter}; echo\n");
    let list: String = "abcdefgh".chars().map(line).collect();
    let output = stdout(exitring(["run", "-q", "-j8"]).write_stdin(list.clone()));
    assert_eq!(output.lines().count(), 8);
    for line in output.lines() {
        assert_eq!(line.len(), 700_000);
        assert!(line.bytes().all(|byte| byte == line.as_bytes()[0]));
    }
    // Longer ones are passed on as they come, and have the output to themselves.
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
fn a_line_of_megabytes_comes_out_byte_for_byte() {
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
    // Without an end it gets one, and nothing else does.
    let mut run = exitring(["run", "-q", "-j1"]);
    let output = stdout(run.write_stdin("head -c 3000000 /dev/zero | tr '\\0' x\nprintf y\n"));
    assert!(
        output == "x".repeat(3_000_000) + "\ny\n",
        "{} bytes",
        output.len()
    );
}

#[test]
fn a_long_line_that_does_not_go_on_is_ended_with_a_word_when_others_wait() {
    // The second job's output is waited for by the first, in the middle of its line.
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
        text.matches("job 1: a line longer than 1 MiB was ended")
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
fn what_is_no_text_is_told_byte_for_byte_in_records_and_the_job_log() {
    let bytes = |record: &serde_json::Value, field: &str| {
        use base64::Engine as _;
        let text = record[field].as_str();
        text.map(|text| base64::prelude::BASE64_STANDARD.decode(text).unwrap())
    };
    let dir = tempfile::tempdir().unwrap();
    let mut run = exitring([
        "run", "-q", "--output", "jsonl", "--joblog", "log", "--", "echo", "it's",
    ]);
    let output = stdout(
        run.current_dir(dir.path())
            .write_stdin(&b"a\xff' b\nplain\n"[..]),
    );
    let all = records(&output);
    let of = |kind: &str| {
        all.iter()
            .filter(|it| it["type"] == kind)
            .cloned()
            .collect::<Vec<_>>()
    };
    let broken = |record: &serde_json::Value, field: &str| {
        record[field].as_str().unwrap().contains('\u{fffd}')
    };
    let lines = of("output");
    let line = lines.iter().find(|line| broken(line, "line")).unwrap();
    assert_eq!(bytes(line, "line_base64").unwrap(), b"it's a\xff' b");
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    for jobs in [jobs(&output), jobs(&log)] {
        assert!(broken(&jobs[0], "command"));
        // As one would type it.
        let command =
            br"echo 'it'\''s' 'aX'\'' b'".map(|byte| if byte == b'X' { 0xff } else { byte });
        assert_eq!(bytes(&jobs[0], "command_base64").unwrap(), command);
        assert_eq!(bytes(&jobs[1], "command_base64"), None);
    }
    assert!(
        lines
            .iter()
            .any(|line| line["line"] == "it's plain" && line["line_base64"].is_null())
    );
    // Another name that looks the same is another command.
    let mut run = exitring([
        "run", "-q", "--joblog", "log", "--resume", "--", "echo", "it's",
    ]);
    let output = run
        .current_dir(dir.path())
        .write_stdin(&b"a\xfe' b\nplain\n"[..])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn pieces_of_a_long_text_are_text() {
    for (first, character) in [("", "€"), ("x", "€"), ("xx", "€"), ("x", "ü")] {
        let line = first.to_owned() + &character.repeat(800_000);
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("long"), &line).unwrap();
        let mut run = exitring(["run", "-q", "--output", "jsonl"]);
        let all = records(&stdout(
            run.current_dir(dir.path()).write_stdin("cat long\n"),
        ));
        let output: Vec<_> = all.iter().filter(|it| it["type"] == "output").collect();
        let joined: String = output
            .iter()
            .map(|it| it["line"].as_str().unwrap())
            .collect();
        assert!(joined == line);
        assert!(output.iter().all(|it| it["line_base64"].is_null()));
        let (end, pieces) = output.split_last().unwrap();
        assert!(pieces.iter().all(|piece| piece["partial"] == true));
        assert_eq!(end["partial"], serde_json::Value::Null);
    }
}

#[test]
fn a_file_that_may_not_grow_is_told_from_a_full_disk() {
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
fn where_the_locale_is_ascii_so_is_what_is_said() {
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
fn pieces_of_a_long_line_are_told_from_its_end() {
    let list = "head -c 2500000 /dev/zero | tr '\\0' x; echo; echo y\n";
    let records = records(&stdout(
        exitring(["run", "-q", "--output", "jsonl"]).write_stdin(list),
    ));
    let output: Vec<_> = records.iter().filter(|it| it["type"] == "output").collect();
    let (last, long) = output.split_last().unwrap();
    assert_eq!((&last["line"], &last["partial"]), (&"y".into(), &().into()));
    assert!(long.len() > 1);
    let length = |record: &&&serde_json::Value| record["line"].as_str().unwrap().len();
    assert_eq!(long.iter().map(|it| length(&it)).sum::<usize>(), 2_500_000);
    let (end, pieces) = long.split_last().unwrap();
    assert!(pieces.iter().all(|piece| piece["partial"] == true));
    assert_eq!(end["partial"], serde_json::Value::Null);
}

#[test]
fn lines_say_which_attempt_wrote_them() {
    let output = stdout(
        exitring(["run", "--retries", "1", "--output", "jsonl"]).write_stdin("echo x; exit 1\n"),
    );
    let attempts: Vec<_> = records(&output)
        .iter()
        .map(|record| record["attempt"].clone())
        .collect();
    assert_eq!(attempts, [1.into(), 2.into(), serde_json::Value::Null]);
}

#[test]
fn twenty_thousand_silent_jobs_are_twenty_thousand_lines() {
    let output = shell("seq 20000 | sed 's/.*/true/' | $EXITRING run -j 64 --output jsonl | wc -l")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "20000");
}

#[test]
fn logs_are_files_of_each_job() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    let list = "echo one; echo oops >&2\ntrue\nprintf three\n";
    let output = exitring(["run", "--log"])
        .arg(&logs)
        .write_stdin(list)
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"");
    let read = |name: &str| fs::read_to_string(logs.join(name)).ok();
    assert_eq!(read("1.out").as_deref(), Some("one\n"));
    assert_eq!(read("1.err").as_deref(), Some("oops\n"));
    assert_eq!(read("3.out").as_deref(), Some("three"));
    assert_eq!((read("2.out"), read("3.err")), (None, None));
    // Another run there leaves nothing of the former.
    exitring(["run", "--log"])
        .arg(&logs)
        .write_stdin("true\ntrue\necho 3\n")
        .output()
        .unwrap();
    assert_eq!(
        (read("1.out"), read("1.err"), read("3.out").as_deref()),
        (None, None, Some("3\n"))
    );
}

#[test]
fn one_file_takes_all_and_nowhere_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all");
    for _ in 0..2 {
        exitring(["run", "-j1", "--append"])
            .arg(&file)
            .write_stdin("echo a\necho b >&2\n")
            .assert()
            .success();
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "a\nb\na\nb\n");
    let output = exitring(["run", "-q", "--discard"])
        .write_stdin("echo a\necho b >&2\n")
        .output()
        .unwrap();
    assert_eq!((output.stdout, output.stderr), (vec![], vec![]));
    let output = exitring(["run", "-q", "-j1", "--inherit"])
        .write_stdin("echo a\necho b >&2\n")
        .output()
        .unwrap();
    assert_eq!(
        (output.stdout, output.stderr),
        (b"a\n".to_vec(), b"b\n".to_vec())
    );
}

#[test]
fn what_a_job_left_running_does_not_hold_up_its_end() {
    // The sleeper has the pipes, and its number is known to end it.
    let output =
        stdout(exitring(["run", "--output", "jsonl"]).write_stdin("sleep 1000 & echo $!\n"));
    let all = records(&output);
    let sleeper: i32 = all[0]["line"].as_str().unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(sleeper).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it was left alone");
    assert_eq!(jobs(&output)[0]["success"], true);
    assert!(jobs(&output)[0]["wall_seconds"].as_f64().unwrap() < 900.0);
}

#[test]
fn the_summary_tells_counts_and_who_failed() {
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
    assert!(
        !text.contains('\u{1b}'),
        "no colours where there is no terminal"
    );
}

#[test]
fn ten_thousand_run_at_once_with_256_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    for output in ["--discard", "--append all"] {
        let script = format!(
            "ulimit -n 256; yes 1000 | head -n 10000 > list; exec $EXITRING run -q -j 10000 {output} --output jsonl list -- sleep"
        );
        let mut command = std::process::Command::new("bash");
        command
            .args(["-c", &script])
            .env("EXITRING", common::EXITRING)
            .current_dir(dir.path());
        command.stdout(fs::File::create(dir.path().join("records")).unwrap());
        let mut run = Started::new(&mut command);
        let tasks = format!("/proc/{}/task", run.0.id());
        let children = || {
            let tasks = fs::read_dir(&tasks).expect("it runs").flatten();
            let children = tasks
                .map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
            children
                .map(|children| children.split_whitespace().count())
                .sum::<usize>()
        };
        wait_until("ten thousand children", || {
            assert!(run.0.try_wait().unwrap().is_none(), "it has ended");
            // The kernel makes the list anew each time.
            std::thread::sleep(std::time::Duration::from_millis(100));
            children() == 10_000
        });
        signal(&run.0, libc::SIGTERM);
        assert_eq!(run.code(), Some(130));
        let records = jobs(&fs::read_to_string(dir.path().join("records")).unwrap());
        assert_eq!(records.len(), 10_000);
        assert!(
            records
                .iter()
                .all(|job| job["interrupted"] == true && job["signal"] == libc::SIGTERM)
        );
    }
}

#[test]
fn with_too_few_descriptors_for_pipes_fewer_run_at_a_time() {
    let script = "ulimit -n 64; yes 'sleep 0.02; echo x' | head -n 300 | $EXITRING run -j 200 > out; echo $?; wc -l < out";
    let dir = tempfile::tempdir().unwrap();
    let output = shell(script).current_dir(dir.path()).output().unwrap();
    assert_eq!(output.stdout, b"0\n300\n", "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.matches("jobs run at a time").count(), 1, "{text}");
    assert!(text.contains("ulimit -n"), "{text}");
}

#[test]
fn with_no_descriptors_for_even_one_it_says_so() {
    // 3 to 24 are taken; what the command itself needs is left, and no more.
    for limit in [8, 10, 12, 14, 16, 18] {
        let script = format!("ulimit -n {limit}; echo 'echo x' | $EXITRING run");
        let output = shell(&script).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => assert_eq!(output.stdout, b"x\n"),
            Some(3) => assert!(
                text.contains("ulimit -n") || text.contains("Too many open files"),
                "{limit}: {text}"
            ),
            other => panic!("{limit}: {other:?}: {text}"),
        }
        if limit == 8 {
            assert_eq!(output.status.code(), Some(3));
        }
    }
}
