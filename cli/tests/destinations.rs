//! Where jobs write, and the descriptors that this takes.

mod common;

use std::fs;

use common::{Started, exitring, jobs, shell, signal, wait_until};

/// The number of children of a process that runs.
fn children(run: &Started) -> usize {
    let tasks = format!("/proc/{}/task", run.0.id());
    let tasks = fs::read_dir(&tasks).expect("it runs").flatten();
    let children =
        tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    children
        .map(|children| children.split_whitespace().count())
        .sum()
}

#[test]
fn each_job_has_its_own_log_files() {
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
    // A second run removes the files of the first one.
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
fn append_writes_one_file_and_discard_writes_nothing() {
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
fn ten_thousand_jobs_run_at_once_with_256_descriptors() {
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
        wait_until("ten thousand children", || {
            assert!(run.0.try_wait().unwrap().is_none(), "it has ended");
            // The kernel generates the list for each read.
            std::thread::sleep(std::time::Duration::from_millis(100));
            children(&run) == 10_000
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
fn too_few_descriptors_reduce_the_number_of_jobs_at_a_time() {
    let script = "ulimit -n 64; yes 'sleep 0.02; echo x' | head -n 300 | $EXITRING run -j 200 > out; echo $?; wc -l < out";
    let dir = tempfile::tempdir().unwrap();
    let output = shell(script).current_dir(dir.path()).output().unwrap();
    assert_eq!(output.stdout, b"0\n300\n", "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.matches("jobs run at a time").count(), 1, "{text}");
    assert!(text.contains("ulimit -n"), "{text}");
}

#[test]
fn too_few_descriptors_for_one_job_are_reported() {
    // The shell and the command use some descriptors themselves. The limit leaves those, and none
    // for a job.
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

#[test]
fn a_job_that_is_not_started_has_no_log_of_an_earlier_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = |options: &str| {
        let script = format!(
            "$EXITRING run -q --log logs {options} -- sh -c 'echo old; echo old >&2' ::: 1"
        );
        let output = shell(&script).current_dir(dir.path()).output().unwrap();
        output.status.code()
    };
    assert_eq!(run(""), Some(0));
    assert_eq!(fs::read(dir.path().join("logs/1.out")).unwrap(), b"old\n");
    assert_eq!(run("--stdin absent --report page"), Some(1));
    assert_eq!(fs::read_dir(dir.path().join("logs")).unwrap().count(), 0);
    let page = fs::read_to_string(dir.path().join("page")).unwrap();
    assert!(!page.contains("old\nold"), "{page}");
}

#[test]
fn jobs_start_as_soon_as_descriptors_are_free_though_none_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let script = "ulimit -Sn 40; yes 1000 | head -n 30 > list; exec $EXITRING run -q -j 30 list -- sleep 2> err";
    let mut command = std::process::Command::new("bash");
    command
        .args(["-c", script])
        .env("EXITRING", common::EXITRING)
        .current_dir(dir.path());
    let mut run = Started::new(&mut command);
    let errors = || fs::read_to_string(dir.path().join("err")).unwrap_or_default();
    wait_until("descriptors run out", || {
        errors().contains("jobs run at a time")
    });
    assert!(children(&run) < 30);
    let raised = rustix::process::Rlimit {
        current: Some(1000),
        maximum: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
    };
    let pid = rustix::process::Pid::from_child(&run.0);
    rustix::process::prlimit(Some(pid), rustix::process::Resource::Nofile, raised).unwrap();
    wait_until("all run", || children(&run) == 30);
    signal(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
}

#[test]
fn one_file_is_not_used_twice() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("logs")).unwrap();
    let list = "echo a\necho b\n";
    for file in ["list", "logs/1.out"] {
        fs::write(dir.path().join(file), list).unwrap();
    }
    for (words, why) in [
        ("--append list list", "--append and the list"),
        ("--joblog list list", "--joblog and the list"),
        ("--append x --joblog ./x list", "--append and --joblog"),
        ("--log logs --joblog logs/2.err list", "--joblog and --log"),
        ("--log logs logs/1.out", "the list and --log"),
    ] {
        let mut run = exitring(["run"]);
        let output = run.args(words.split(' ')).current_dir(dir.path()).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2), "{words}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            text.contains(&format!("{why} name the same file")),
            "{text}"
        );
    }
    for file in ["list", "logs/1.out"] {
        assert_eq!(fs::read_to_string(dir.path().join(file)).unwrap(), list);
    }
}
