//! Templates beside GNU parallel: the same words give the same commands.

mod common;

use std::process::Command;

use common::*;

/// Arguments with and without directories, extensions, spaces and bytes that are not ASCII.
const PATHS: [&str; 20] = [
    "a.x",
    ".bashrc",
    "a.",
    "dir.d/file",
    "a/",
    "/",
    "/a",
    "a//b",
    "a/b//",
    "a.tar.gz",
    "./x.c",
    "../y",
    "..",
    "a b.c",
    "/a/b.c.d",
    "x/.y",
    "//",
    "//a",
    "é.ü",
    "d e/f g.h",
];

/// Runs the template with both programs, and returns what each printed.
fn both(template: &[&str], lists: &[&[&str]]) -> (String, String) {
    let lists = lists.iter().flat_map(|list| match list {
        // A list that brings its separator.
        [":::+" | "::::" | "::::+", ..] => list.to_vec(),
        _ => [&[":::"], *list].concat(),
    });
    let words: Vec<_> = template.iter().copied().chain(lists).collect();
    let mut parallel = Command::new("parallel");
    // It gives the command to a shell. With -q the words arrive as they are here.
    parallel.args(["--will-cite", "-j1", "-q"]).args(&words);
    let parallel = parallel.output().expect("it is installed");
    assert!(parallel.status.success(), "{words:?}: {parallel:?}");
    let ours = stdout(exitring(["run", "-q", "-j1", "--"]).args(&words));
    let theirs = String::from_utf8(parallel.stdout).expect("UTF-8");
    (ours, theirs)
}

#[test]
fn parts_of_a_path_are_the_same_in_gnu_parallel() {
    if !has_parallel() {
        return;
    }
    let template = [
        "echo", "[{}]", "[{.}]", "[{/}]", "[{//}]", "[{/.}]", "-{.}.o-", "{#}",
    ];
    let (ours, theirs) = both(&template, &[&PATHS]);
    assert_eq!(ours, theirs);
    assert!(ours.contains("[dir.d/file] [dir.d/file] [file] [dir.d] [file] -dir.d/file.o- 4\n"));
}

#[test]
fn the_slot_is_the_same_in_gnu_parallel() {
    if !has_parallel() {
        return;
    }
    let (ours, theirs) = both(&["echo", "{%}", "-{%}{#}-"], &[&["a", "b"]]);
    assert_eq!(ours, theirs);
    assert_eq!(ours, "1 -11-\n1 -12-\n");
    // Each job waits until all three run.
    let job = "touch $1; until [ -e a ] && [ -e b ] && [ -e c ]; do sleep 0.02; done; echo $2";
    let words = ["sh", "-c", job, "sh", "{}", "{%}", ":::", "a", "b", "c"];
    let slots = |command: &mut Command| {
        let dir = tempfile::tempdir().unwrap();
        let output = command.args(words).current_dir(dir.path()).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let mut slots: Vec<_> = text.lines().map(str::to_owned).collect();
        slots.sort_unstable();
        slots
    };
    let theirs = slots(Command::new("parallel").args(["--will-cite", "-j3", "-q"]));
    let ours = slots(&mut std_exitring(["run", "-q", "-j3", "--"]));
    assert_eq!(ours, theirs);
    assert_eq!(ours, ["1", "2", "3"]);
}

#[test]
fn parts_of_arguments_of_several_lists_are_the_same_in_gnu_parallel() {
    if !has_parallel() {
        return;
    }
    let template = [
        "printf",
        "<%s>\\n",
        "[{.}]",
        "[{1/}]",
        "[{2//}]",
        "{2.}{1/.}",
        "{1}",
        "{}",
    ];
    let lists: [&[&str]; 2] = [&["a/b.c", "d"], &["e/f.g", "/h", "i j.k"]];
    let (ours, theirs) = both(&template, &lists);
    assert_eq!(ours, theirs);
    assert_eq!(ours.lines().count(), 6 * 8);
}

#[test]
fn linked_lists_are_the_same_in_gnu_parallel() {
    if !has_parallel() {
        return;
    }
    let template = ["echo", "{1}-{2}-{3}", "{}"];
    let linked: [&[&[&str]]; 3] = [
        &[&["a", "b"], &[":::+", "1", "2"], &["x", "y", "z"]],
        &[&["p", "q"], &["a", "b", "c"], &[":::+", "1", "2", "3"]],
        &[&["a", "b"], &[":::+", "1", "2"], &[":::+", "x", "y"]],
    ];
    for (lists, jobs) in linked.into_iter().zip([6, 6, 2]) {
        let (ours, theirs) = both(&template, lists);
        assert_eq!(ours, theirs);
        assert_eq!(ours.lines().count(), jobs);
    }
}

#[test]
fn lists_from_files_are_the_same_in_gnu_parallel() {
    if !has_parallel() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let (two, three) = (file("two", "a b\n\n"), file("three", "x\ny\n'z'"));
    let template = ["printf", "[%s]\\n", "{}", "{1}"];
    let lists: [(&[&[&str]], usize); 7] = [
        (&[&["::::", &two]], 4),
        (&[&["::::", &two, &three]], 18),
        (&[&["::::", &two], &["::::", &three]], 18),
        (&[&["::::", &two], &["p", "q"]], 12),
        (&[&["p", "q"], &["::::", &three]], 18),
        (&[&["p", "q"], &["::::+", &two]], 6),
        (&[&["::::", &three], &[":::+", "p", "q", "r"], &["s"]], 12),
    ];
    for (lists, lines) in lists {
        let (ours, theirs) = both(&template, lists);
        assert_eq!(ours, theirs, "{lists:?}");
        assert_eq!(ours.lines().count(), lines, "{lists:?}");
    }
}

/// GNU parallel leaves out the arguments of the longer list without a word.
#[test]
fn linked_lists_of_different_lengths_are_refused() {
    let mut run = exitring(["run", "--", "echo", ":::", "a", "b", "c", ":::+", "1", "2"]);
    let output = run.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("has 2 arguments, and the list before has 3"),
        "{error}"
    );
}
