//! Processes that a job leaves in the background: they continue, and can still write.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::{EXITRING, jobs, records, shell, stdout, wait_until};

/// Writes more than a pipe holds once there is a file `go`, and ends if a write fails.
const LATE_WRITER: &str = "(until [ -e go ] || ! [ -e list ]; do sleep 0.02; done; seq 50000 && echo last >&2 && touch end) &";

fn write_list(dir: &Path, lines: &[&str]) {
    fs::write(dir.join("list"), lines.join("\n") + "\n").unwrap();
}

/// Processes that execute this file, without those between fork and exec.
fn processes_of(program: &Path) -> Vec<PathBuf> {
    let program = fs::metadata(program).unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|process| {
            let exe = fs::metadata(process.join("exe"));
            exe.is_ok_and(|exe| (exe.dev(), exe.ino()) == (program.dev(), program.ino()))
        })
        .collect()
}

#[test]
fn background_processes_can_write_after_the_run_has_ended() {
    for options in [
        "",
        "--output jsonl",
        "--log logs",
        "--append all",
        "--discard",
        "--inherit > all 2>&1",
        "| cat",
    ] {
        let dir = tempfile::tempdir().unwrap();
        write_list(dir.path(), &["true", LATE_WRITER]);
        let script = format!("$EXITRING run -q list {options}");
        let output = shell(&script).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{options}: {output:?}");
        fs::write(dir.path().join("go"), "").unwrap();
        wait_until(&format!("{options}: the writer's end"), || {
            dir.path().join("end").exists()
        });
        let lines = |name: &str| {
            let text = fs::read_to_string(dir.path().join(name)).unwrap_or_default();
            text.lines().count()
        };
        match options {
            "--log logs" => assert_eq!((lines("logs/2.out"), lines("logs/2.err")), (50_000, 1)),
            "--append all" => assert_eq!(lines("all"), 50_001),
            _ => {}
        }
    }
}

#[test]
fn the_drainer_holds_no_files_and_ends_with_the_writers() {
    let dir = tempfile::tempdir().unwrap();
    // A copy distinguishes its processes from those of other tests.
    let program = dir.path().join("exitring-copy");
    fs::copy(EXITRING, &program).unwrap();
    write_list(dir.path(), &[LATE_WRITER, LATE_WRITER]);
    let script = "exec 9> held; ./exitring-copy run -q -j2 list 2>&1 | cat";
    let output = shell(script).current_dir(dir.path()).output().unwrap();
    assert_eq!(
        (output.stdout.len(), output.stderr.len()),
        (0, 0),
        "{output:?}"
    );
    let left = processes_of(&program);
    let [process] = &left[..] else {
        panic!("one for all: {left:?}")
    };
    assert_eq!(fs::read_link(process.join("cwd")).unwrap(), Path::new("/"));
    let open_files = || -> Vec<_> {
        let files = fs::read_dir(process.join("fd")).unwrap().flatten();
        // A file may be closed meanwhile.
        files.flat_map(|file| fs::read_link(file.path())).collect()
    };
    wait_until("it has closed the socket that brought the pipes", || {
        let is_socket = |file: &PathBuf| file.to_string_lossy().starts_with("socket:");
        !open_files().iter().any(is_socket)
    });
    let files = open_files();
    let pipes = files
        .iter()
        .filter(|file| file.to_string_lossy().starts_with("pipe:"))
        .count();
    let nulls = files
        .iter()
        .filter(|file| file.as_path() == Path::new("/dev/null"))
        .count();
    assert_eq!((pipes, nulls, files.len()), (4, 3, 7), "{files:?}");
    // The fields after the name: state, parent, group, session, terminal.
    let stat = fs::read_to_string(process.join("stat")).unwrap();
    let fields: Vec<_> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    assert_eq!(
        fields[3],
        process.file_name().unwrap().to_str().unwrap(),
        "its session: {stat}"
    );
    assert_eq!(fields[4], "0", "its terminal: {stat}");
    fs::write(dir.path().join("go"), "").unwrap();
    wait_until("its end", || processes_of(&program).is_empty());
    assert!(dir.path().join("end").exists());
}

#[test]
fn no_drainer_is_started_without_writers() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("exitring-copy");
    fs::copy(EXITRING, &program).unwrap();
    write_list(
        dir.path(),
        &[
            "echo a",
            "sleep 1000 > /dev/null 2>&1 & echo $! > pid",
            "echo b >&2",
        ],
    );
    let script = "./exitring-copy run -q list; kill $(cat pid)";
    let output = shell(script).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(processes_of(&program), Vec::<PathBuf>::new());
}

#[test]
fn background_output_is_forwarded_during_the_run() {
    let late = "(until [ -e go ] || ! [ -e list ]; do sleep 0.02; done; echo late) &";
    // The record of a job contains its command, so the word alone could appear earlier.
    let next = "touch go; until grep -qE '^late$|\"line\":\"late\"' out; do sleep 0.02; done";
    for options in ["", "--output jsonl --retries 1"] {
        let dir = tempfile::tempdir().unwrap();
        write_list(dir.path(), &[late, next]);
        let script = format!("$EXITRING run -q -j1 {options} list > out");
        let output = shell(&script).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = fs::read_to_string(dir.path().join("out")).unwrap();
        if options.is_empty() {
            assert_eq!(text, "late\n");
            continue;
        }
        let all = records(&text);
        let kinds: Vec<_> = all
            .iter()
            .map(|it| (it["type"].as_str().unwrap(), it["job"].as_u64().unwrap()))
            .collect();
        assert_eq!(kinds, [("job", 1), ("output", 1), ("job", 2)]);
    }
}

#[test]
fn background_output_of_an_earlier_attempt_is_attributed_to_it() {
    // The first attempt fails, and the process it left writes during the second one.
    let job = "[ -e tried ] && { touch go; until grep -q late out; do sleep 0.02; done; echo second; exit 0; }; \
               touch tried; (until [ -e go ] || ! [ -e list ]; do sleep 0.02; done; echo late) & exit 1";
    let dir = tempfile::tempdir().unwrap();
    write_list(dir.path(), &[job]);
    let script = "$EXITRING run -q --retries 1 --output jsonl list > out";
    let output = shell(script).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let all = records(&fs::read_to_string(dir.path().join("out")).unwrap());
    let lines: Vec<_> = all[..2]
        .iter()
        .map(|it| {
            (
                it["line"].as_str().unwrap(),
                it["attempt"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(lines, [("late", 1), ("second", 2)]);
    // With log files, the file of the later attempt has no output of the earlier one.
    let job = job
        .replace("until grep -q late out", "until [ -e wrote ]")
        .replace("echo late", "echo late; touch wrote");
    fs::remove_file(dir.path().join("tried")).unwrap();
    fs::remove_file(dir.path().join("go")).unwrap();
    write_list(dir.path(), &[&job]);
    let script = "$EXITRING run -q --retries 1 --log logs list; cat logs/*";
    let output = shell(script).current_dir(dir.path()).output().unwrap();
    assert_eq!(output.stdout, b"second\n", "{output:?}");
}

#[test]
fn above_a_limit_the_oldest_background_pipes_are_closed_with_a_message() {
    let dir = tempfile::tempdir().unwrap();
    // An eighth of 64 is 8 pipes, those of 4 jobs.
    let list: Vec<_> = (1..=6)
        .map(|job| format!("(until [ -e go ] || ! [ -e list ]; do sleep 0.02; done; echo x && touch end{job}; touch gone{job}) &"))
        .collect();
    write_list(
        dir.path(),
        &list.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let script = "ulimit -n 64; $EXITRING run -q -j1 list";
    let output = shell(script).current_dir(dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(
        text.matches("the oldest pipes were closed").count(),
        1,
        "{text}"
    );
    fs::write(dir.path().join("go"), "").unwrap();
    let there = |name: &str| dir.path().join(name).exists();
    wait_until("the ends of those that can write", || {
        (3..=6).all(|job| there(&format!("end{job}")))
    });
    assert!(!there("end1") && !there("end2"), "SIGPIPE ends them");
}

#[test]
fn an_empty_log_stays_while_a_process_may_write_to_it() {
    for how in ["", "setsid"] {
        let dir = tempfile::tempdir().unwrap();
        let late = format!(
            "{how} sh -c 'until [ -e go ] || ! [ -e list ]; do sleep 0.02; done; echo late; touch end' &"
        );
        write_list(
            dir.path(),
            &["true", &late, "no-such-command-here", "echo x >&2"],
        );
        let script = "$EXITRING run -q -j2 --log logs list; ls logs";
        let output = shell(script).current_dir(dir.path()).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "2.err\n2.out\n4.err\n",
            "{how}"
        );
        fs::write(dir.path().join("go"), "").unwrap();
        wait_until("the writer's end", || dir.path().join("end").exists());
        let log = fs::read_to_string(dir.path().join("logs/2.out")).unwrap();
        assert_eq!(log, "late\n", "{how}");
    }
}

#[test]
fn logs_need_no_descriptors_while_jobs_run() {
    let dir = tempfile::tempdir().unwrap();
    // Pipes would need 400 descriptors. (With epoll each process needs one.)
    let list = "echo x; until [ $(ls -A ran | wc -l) -ge 200 ]; do touch ran/$$; sleep 0.3; done\n";
    fs::write(dir.path().join("list"), list.repeat(200)).unwrap();
    let script = "mkdir ran; ulimit -n 256; $EXITRING run -q -j 200 --log logs --output jsonl list";
    let text = stdout(shell(script).current_dir(dir.path()));
    let jobs = jobs(&text);
    assert_eq!(jobs.len(), 200);
    assert!(jobs.iter().all(|job| job["success"] == true));
    assert_eq!(fs::read_dir(dir.path().join("logs")).unwrap().count(), 200);
}
