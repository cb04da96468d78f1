//! Options of xargs: the same list gives the same commands.

mod common;

use std::process::{Command, Stdio};

use common::*;

/// Whether xargs is that of GNU.
fn has_xargs() -> bool {
    let version = Command::new("xargs").arg("--version").output();
    let found = version.is_ok_and(|version| version.stdout.starts_with(b"xargs (GNU"));
    if !found {
        eprintln!("not tested: GNU xargs is not installed");
    }
    found
}

/// The words in a text, with `\0` and the like in them.
fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Runs both programs on the list, with the words after their names, and returns what each
/// printed.
fn both(ours: &str, theirs: &str, list: &str) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("list");
    std::fs::write(&file, list).unwrap();
    let mut xargs = Command::new("xargs");
    let xargs = xargs.args(words(theirs)).current_dir(dir.path());
    let input = std::fs::File::open(&file).unwrap();
    let theirs = xargs.stdin(Stdio::from(input)).output().unwrap();
    assert!(theirs.status.success(), "{theirs:?}");
    let mut run = exitring(["run", "-q"]);
    let run = run.args(words(ours)).current_dir(dir.path());
    let ours = stdout(run.write_stdin(list));
    (ours, String::from_utf8(theirs.stdout).unwrap())
}

#[test]
fn null_is_the_same_in_xargs() {
    if !has_xargs() {
        return;
    }
    let list = "a b\0\0c\nd\0'e'\\\0";
    let (ours, theirs) = both("-j1 -0 -- printf [%s]\\n", "-0 -n1 printf [%s]\\n", list);
    assert_eq!(ours, theirs);
    assert_eq!(ours, "[a b]\n[]\n[c\nd]\n['e'\\]\n");
}

#[test]
fn the_delimiter_is_the_same_in_xargs() {
    if !has_xargs() {
        return;
    }
    for (delimiter, list) in [
        ("-d,", "a,,b c,'d'\n"),
        ("-d,", "a,b,"),
        ("-d\\n", "a\n\nb c\n\"d"),
        ("-d\\t", "a\tb"),
        ("-d\\054", "a,b"),
        ("-d\\x2c", "a,b"),
        ("-d\\0", "a\0b\0"),
        ("-dx", ""),
    ] {
        let ours = format!("-j1 {delimiter} -- printf [%s]\\n");
        let theirs = format!("-r {delimiter} -n1 printf [%s]\\n");
        let (ours, theirs) = both(&ours, &theirs, list);
        assert_eq!(ours, theirs, "{delimiter} {list:?}");
    }
}

#[test]
fn max_args_are_the_same_in_xargs() {
    if !has_xargs() {
        return;
    }
    for list in ["a\nb\nc\nd\ne\n", "a b\n\nc\n", "a\n", ""] {
        for max in ["-n1", "-n2", "-n 3", "--max-args=5", "-n100"] {
            let ours = format!("-j1 -d\\n {max} -- echo -v");
            let theirs = format!("-r -d\\n {max} echo -v");
            let (ours, theirs) = both(&ours, &theirs, list);
            assert_eq!(ours, theirs, "{max} {list:?}");
        }
    }
}

#[test]
fn jobs_at_a_time_are_the_same_in_xargs() {
    if !has_xargs() {
        return;
    }
    // Each job waits until all three run.
    let job = "touch $0; until [ -e a ] && [ -e b ] && [ -e c ]; do sleep 0.02; done; echo $0";
    let run = |command: &mut assert_cmd::Command| {
        let dir = tempfile::tempdir().unwrap();
        let command = command.args(["sh", "-c", job]).current_dir(dir.path());
        let text = stdout(command.write_stdin("a\nb\nc\n"));
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let ours = run(&mut exitring(["run", "-q", "-j3", "-d\\n", "-n1", "--"]));
    let mut xargs = assert_cmd::Command::new("xargs");
    let theirs = run(xargs.args(["-P3", "-d\\n", "-n1"]));
    assert_eq!(ours, theirs);
    assert_eq!(ours, ["a", "b", "c"]);
}

#[test]
fn an_empty_list_is_the_same_in_xargs() {
    if !has_xargs() {
        return;
    }
    let (ours, theirs) = both("-- echo none", "-r echo none", "");
    assert_eq!(ours, theirs);
    assert_eq!(ours, "");
}

#[test]
fn a_list_from_a_file_is_the_same_in_xargs() {
    if !has_xargs() {
        return;
    }
    let (ours, theirs) = both(
        "-j1 list -- printf [%s]\\n",
        "-a list -d\\n -n1 printf [%s]\\n",
        "a b\n'c'\n",
    );
    assert_eq!(ours, theirs);
    assert_eq!(ours, "[a b]\n['c']\n");
}

#[test]
fn placeholders_are_the_same_in_xargs() {
    if !has_xargs() {
        return;
    }
    let (ours, theirs) = both(
        "-j1 -- printf [%s]\\n x{}y {}",
        "-I{} printf [%s]\\n x{}y {}",
        "a b\nc/d\n",
    );
    assert_eq!(ours, theirs);
    assert_eq!(ours, "[xa by]\n[a b]\n[xc/dy]\n[c/d]\n");
}
