//! The records of `--output jsonl`.

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{exitring, jobs, records, shell, stdout};

#[test]
fn the_record_of_a_job_follows_the_records_of_its_output() {
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
fn records_and_the_job_log_contain_the_exact_bytes_of_non_utf8_text() {
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
        // Quoted for a shell.
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
    // A different command that has the same text after replacement.
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
fn partial_records_of_utf8_text_are_valid_utf8() {
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
fn partial_records_of_a_long_line_are_marked() {
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
fn output_records_name_the_attempt() {
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
fn twenty_thousand_silent_jobs_write_twenty_thousand_records() {
    let output = shell("seq 20000 | sed 's/.*/true/' | $EXITRING run -j 64 --output jsonl | wc -l")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "20000");
}
