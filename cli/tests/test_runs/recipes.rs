//! The recipes in `docs/TEST_RUNS.md`, executed as they are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::{EXITRING, jobs, shell};
use crate::junit::{cases, read};

/// The packages of this repository.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The script below a heading.
fn recipe(heading: &str) -> String {
    let text = fs::read_to_string(repository().join("docs/TEST_RUNS.md")).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let (_, script) = section.split_once("```sh\n").unwrap();
    script.split_once("```").unwrap().0.to_owned()
}

/// Runs a script, in which `exitring` is the program. Python is that of the tests of the client, if
/// there is one.
fn run(dir: &Path, script: &str) -> Output {
    let program = Path::new(EXITRING).parent().unwrap().to_owned();
    let python = repository().join("target/venv/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([program, python].into_iter().chain(env::split_paths(&path)));
    let mut shell = shell(script);
    shell.current_dir(dir).env("PATH", path.unwrap());
    // The variables of the `cargo test` that runs this test.
    shell.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    shell.output().unwrap()
}

/// Whether a command can be executed here.
fn has(dir: &Path, command: &str) -> bool {
    let there = run(dir, command).status.success();
    if !there {
        eprintln!("not run: `{command}` fails here");
    }
    there
}

fn log(dir: &Path, name: &str) -> Vec<serde_json::Value> {
    jobs(&fs::read_to_string(dir.join(name)).unwrap())
}

#[test]
fn rust() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if !has(dir, "cargo --version") {
        return;
    }
    let manifest =
        "[package]\nname = \"tiny\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n";
    fs::write(dir.join("Cargo.toml"), manifest).unwrap();
    fs::create_dir(dir.join("src")).unwrap();
    let tests = "#[cfg(test)]\nmod tests {\n\
        #[test] fn passes() {}\n\
        #[test] fn fails() { panic!(\"on purpose\") }\n\
        #[test] fn passes_too() {}\n}\n";
    fs::write(dir.join("src/lib.rs"), tests).unwrap();
    let output = run(dir, &recipe("Rust"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = read(&dir.join("report.xml"));
    let cases = cases(&report);
    let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(
        names,
        ["tests::fails", "tests::passes", "tests::passes_too"]
    );
    assert_eq!((report.tests, report.failures), (3, 1));
    // `--exact` runs one test each.
    for case in cases {
        let out = case.system_out.as_deref().unwrap();
        assert!(out.contains("running 1 test\n"), "{out}");
    }
}

#[test]
fn pytest() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    if !has(dir, "python3 -m pytest --version") {
        return;
    }
    let tests = "import pytest\n\
        def test_passes(): pass\n\
        def test_fails(): assert False, 'on purpose'\n\
        @pytest.mark.parametrize('text', ['a b', 'c'])\n\
        def test_text(text): assert text\n";
    fs::write(dir.join("test_tiny.py"), tests).unwrap();
    let output = run(dir, &recipe("pytest"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = read(&dir.join("report.xml"));
    let cases = cases(&report);
    let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
    let expected = [
        "test_fails",
        "test_passes",
        "test_text[a b]",
        "test_text[c]",
    ];
    assert!(
        names
            .iter()
            .copied()
            .eq(expected.map(|name| format!("test_tiny.py::{name}")))
    );
    assert_eq!((report.tests, report.failures), (4, 1));
    assert!(
        cases[0]
            .system_out
            .as_deref()
            .unwrap()
            .contains("on purpose")
    );
}

#[test]
fn flaky_tests() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("tests.txt"), "[ $EXITRING_ATTEMPT = 3 ]\ntrue\n").unwrap();
    let script = recipe("Flaky tests");
    let (script, _jq) = script.split_once("jq").unwrap();
    assert_eq!(run(dir, script).status.code(), Some(0));
    let flaky = log(dir, "log")
        .iter()
        .map(|job| job["flaky"].as_bool())
        .collect::<Vec<_>>();
    assert_eq!(flaky, [Some(true), Some(false)]);
    if has(dir, "jq --version") {
        fs::remove_file(dir.join("log")).unwrap();
        let output = run(dir, &recipe("Flaky tests"));
        assert_eq!(output.stdout, b"[ $EXITRING_ATTEMPT = 3 ]\n");
    }
}

#[test]
fn slow_tests() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("tests.txt"), "true\n").unwrap();
    assert_eq!(run(dir, &recipe("Slow tests")).status.code(), Some(0));
    assert_eq!(log(dir, "log")[0]["slow"], false);
}

#[test]
fn the_same_test_many_times() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("tests.txt"), "[ $EXITRING_REPEAT -lt 20 ]\n").unwrap();
    assert_eq!(
        run(dir, &recipe("The same test many times")).status.code(),
        Some(1)
    );
    let jobs = log(dir, "log");
    let failed = jobs.iter().find(|job| job["success"] == false).unwrap();
    // With four at a time a later one may fail first, and some may run after it.
    let repeat = failed["repeat"].as_u64().unwrap();
    assert!((20..24).contains(&repeat), "{failed}");
    assert!(jobs.len() < 100);
}

#[test]
fn shards_and_only_the_tests_that_failed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("tests.txt"), "true a\nfalse b\ntrue c\ntrue d\n").unwrap();
    fs::write(dir.join("durations.log"), "").unwrap();
    run(dir, &recipe("Shards"));
    let durations = log(dir, "durations.log");
    let numbers: Vec<_> = durations
        .iter()
        .map(|job| job["job"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    let tests = ["report.1.xml", "report.2.xml"].map(|name| read(&dir.join(name)).tests);
    assert_eq!(tests, [2, 2]);
    // The next run uses the log of this one.
    for name in ["log.1", "log.2"] {
        fs::remove_file(dir.join(name)).unwrap();
    }
    run(dir, &recipe("Shards"));
    assert_eq!(log(dir, "durations.log").len(), 4);
    fs::rename(dir.join("durations.log"), dir.join("log")).unwrap();
    let output = run(dir, &recipe("Only the tests that failed"));
    assert_eq!(output.status.code(), Some(1));
    let again = log(dir, "log.again");
    assert_eq!(again.len(), 1);
    assert_eq!(again[0]["command"], "false b");
}
