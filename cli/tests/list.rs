//! The parsing of lists and templates: byte for byte, from any kind of file, and without silent
//! misinterpretation.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;

use common::{EXITRING, Started, code, exitring, jobs, shell, std_exitring, stdout, wait_until};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// Makes one end of a pipe non-blocking. The other end stays blocking.
fn set_nonblocking(end: impl AsFd) {
    let flags = fcntl_getfl(&end).unwrap();
    rustix::fs::fcntl_setfl(&end, flags | OFlags::NONBLOCK).unwrap();
}

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC).unwrap()
}

/// Whether a thread of this name sleeps.
fn sleeps(pid: u32, name: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    tasks.flatten().any(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.contains(&format!("({name}) S"))
    })
}

#[test]
fn a_delayed_list_from_a_non_blocking_pipe_is_read() {
    for template in [&[][..], &["--", "echo"]] {
        let (theirs, ours) = pipe();
        set_nonblocking(&theirs);
        let kept = theirs.try_clone().unwrap();
        let mut command = std_exitring(["run", "-q", "-j1"]);
        command.args(template).stdin(theirs).stdout(Stdio::piped());
        let mut run = Started(command.spawn().unwrap());
        drop(command);
        wait_until("that it waits for the list", || {
            sleeps(run.0.id(), "reader") || run.0.try_wait().unwrap().is_some()
        });
        let mut list = fs::File::from(ours);
        list.write_all(b"echo one\n").unwrap();
        list.write_all(b"echo two\n").unwrap();
        assert!(
            fcntl_getfl(&kept).unwrap().contains(OFlags::NONBLOCK),
            "others share the flag"
        );
        drop((list, kept));
        assert_eq!(run.code(), Some(0));
        let output = common::read_all(run.0.stdout.take().unwrap());
        let expected = ["one\ntwo\n", "echo one\necho two\n"];
        assert_eq!(output, expected[usize::from(!template.is_empty())]);
    }
}

#[test]
fn output_to_a_full_non_blocking_pipe_is_complete() {
    let sleep =
        "for i in $(seq 300); do sleep 1000 & pids=\"$pids $!\"; done; kill $pids; wait; exec";
    for script in [
        format!("exec {EXITRING} run --help"),
        format!("exec {EXITRING} completions bash"),
        format!("exec {EXITRING} protocol-schema"),
        format!("exec {EXITRING} run -q -j1 -- seq ::: 20000 20000"),
        format!("exec {EXITRING} run -q -j1 --output jsonl -- seq ::: 2000 2000"),
        format!("{sleep} {EXITRING} wait --jsonl $pids 2>&1"),
    ] {
        let run = |slow: bool| {
            let (ours, theirs) = pipe();
            if slow {
                set_nonblocking(&theirs);
                fcntl_setpipe_size(&theirs, 4096).unwrap();
            }
            let mut command = std::process::Command::new("bash");
            command.args(["-c", &script]).stdout(theirs);
            let mut run = Started::new(&mut command);
            drop(command);
            if slow {
                // The pipe is full, or all output is written.
                let mut before = None;
                wait_until("that it waits for its reader", || {
                    let now = rustix::io::ioctl_fionread(&ours).unwrap();
                    let same = now > 0 && before.replace(now) == Some(now);
                    std::thread::sleep(std::time::Duration::from_millis(300));
                    same || run.0.try_wait().unwrap().is_some()
                });
            }
            let mut text = String::new();
            fs::File::from(ours).read_to_string(&mut text).unwrap();
            (text, run.code())
        };
        let (slow, fast) = (run(true), run(false));
        assert_eq!(slow.1, fast.1, "{script}");
        let lines = |text: &str| text.lines().count();
        assert_eq!(lines(&slow.0), lines(&fast.0), "{script}");
        // Times and process ids differ between runs.
        if !script.contains("jsonl") {
            assert!(slow.0 == fast.0, "{script}");
        }
    }
}

/// Prints its argument in hexadecimal, one argument per line.
const HEX: [&str; 5] = [
    "sh",
    "-c",
    "printf %s \"$1\" | od -v -An -tx1 | tr -d ' \\n'; echo",
    "sh",
    "{}",
];

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        + "\n"
}

#[test]
fn nul_terminated_items_are_passed_byte_for_byte() {
    let names: [&[u8]; 15] = [
        b"new\nline",
        b"cr\r",
        b"\r\n",
        b" lead",
        b"trail ",
        b"#hash",
        b"-dash",
        b"\xff\xfe",
        b"\xef\xbb\xbfbom",
        b"",
        b"{}",
        b"{.}",
        b":::",
        b"a\tb",
        "ünï'\"\\$`*".as_bytes(),
    ];
    let list = names.join(&0);
    let expected: String = names.iter().map(|name| hex(name)).collect();
    for end in [&b""[..], b"\0"] {
        let mut run = exitring(["run", "-q", "-j1", "-0", "--"]);
        let output = run.args(HEX).write_stdin([&list[..], end].concat());
        assert_eq!(stdout(output), expected);
    }
}

#[test]
fn nul_terminated_commands_may_have_several_lines() {
    let list = "echo a\necho b\0\0for i in c d\ndo echo $i; done\0# none\0true";
    let output = stdout(exitring(["run", "-q", "-j1", "--null"]).write_stdin(list));
    assert_eq!(output, "a\nb\nc\nd\n");
}

#[test]
fn template_lines_are_passed_unchanged() {
    let lines: [&[u8]; 8] = [
        b"cr\r",
        b"",
        b"\r",
        b" lead",
        b"trail ",
        b"#hash",
        b"\xef\xbb\xbf",
        b"\xff\r\r",
    ];
    let list = lines.join(&b'\n');
    let expected: String = lines.iter().map(|line| hex(line)).collect();
    let mut run = exitring(["run", "-q", "-j1", "--"]);
    assert_eq!(stdout(run.args(HEX).write_stdin(list)), expected);
}

#[test]
fn a_file_name_that_ends_with_cr_is_passed_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    for list in [
        "find . -name $'victim\\r'",
        "(echo true; echo $'rm ./victim\\r')",
    ] {
        let template = if list.starts_with("find") {
            "-- rm {}"
        } else {
            ""
        };
        let script = format!("touch victim $'victim\\r'; {list} | $EXITRING run -q {template}; ls");
        let output = shell(&script).current_dir(dir.path()).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "victim\n",
            "{list}: {output:?}"
        );
    }
}

#[test]
fn null_separates_the_items_of_a_list_only_by_nul() {
    let output = exitring(["run", "-0", "--", "echo", ":::", "a"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--null and --delimiter need a list"));
    // The first item is too long for an argument, which is reported. The next one runs.
    let list = [&b"x".repeat(200_000)[..], b"\0y\0"].concat();
    let output =
        stdout(exitring(["run", "-q", "-0", "--output", "jsonl", "--", "echo"]).write_stdin(list));
    let jobs = jobs(&output);
    assert_eq!(
        (jobs.len(), &jobs[0]["exit_code"], &jobs[1]["success"]),
        (2, &126.into(), &true.into())
    );
}

#[test]
fn foreign_placeholders_are_refused_with_a_replacement() {
    for (word, instead) in [
        ("{##}", "{#} is the number of the job"),
        ("{+}", "use a shell"),
        ("{+/}", "use a shell"),
        ("{1..}", "use a shell"),
        ("{-1}", "count from the first"),
        ("{= s/x/y/ =}", "use a shell"),
        ("{^.gz}", "use a shell"),
        ("{:}", "use a shell"),
        ("a{..}b", "use a shell"),
    ] {
        for list in [&[":::", "x.c"][..], &[]] {
            let mut run = exitring(["run", "-q", "--", "echo", word]);
            let output = run.args(list).output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{word}: {text}");
            assert_eq!(output.stdout, b"", "{word}");
            assert!(text.contains(instead), "{word}: {text}");
            let spelling = word.trim_matches(['a', 'b']);
            assert!(
                text.contains(&format!("\\{spelling} is {spelling} literally")),
                "{word}: {text}"
            );
            // The suggestion works.
            let quoted = word.replace(spelling, &format!("\\{spelling}"));
            let mut run = exitring(["run", "-q", "--", "echo", &quoted, "{}", ":::", "x.c"]);
            assert_eq!(stdout(&mut run), format!("{word} x.c\n"));
        }
    }
}

#[test]
fn other_braces_are_passed_to_the_program() {
    for word in [
        "{print}",
        "{print $1}",
        "${x}",
        "{a,b}",
        "{1..3}",
        "{{.}}",
        "${.}",
        "${1/}",
        "{{.Names}}",
        "%{x}",
        "{",
        "}",
        "{-}",
        "HEAD^{tree}",
        "{\"a\":1}",
    ] {
        let mut run = exitring(["run", "-q", "--", "echo", word, "{}", ":::", "x"]);
        assert_eq!(stdout(&mut run), format!("{word} x\n"));
    }
    // Arguments are not searched for placeholders.
    let mut run = exitring([
        "run", "-q", "-j1", "--", "echo", ":::", "{.}", "{}", "\\:::",
    ]);
    assert_eq!(stdout(&mut run), "{.}\n{}\n:::\n");
    assert_eq!(
        code(exitring(["run", "-q"]).write_stdin("echo {.} {/} :::: {1.}\n")),
        Some(0)
    );
}
