//! Options beside those of GNU parallel: the same list gives the same output.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::*;

/// Runs both programs with options and a list in standard input.
fn both_with_list(options: &[&str], template: &[&str], list: &str) -> (String, String) {
    let mut parallel = assert_cmd::Command::new("parallel");
    let parallel = parallel.args(["--will-cite", "-j1", "-q"]).args(options);
    let parallel = parallel.args(template).write_stdin(list);
    let mut ours = exitring(["run", "-q", "-j1"]);
    let ours = ours.args(options).arg("--").args(template);
    (stdout(ours.write_stdin(list)), stdout(parallel))
}

#[test]
fn null_and_delimiter_are_the_same_in_gnu_parallel() {
    if !has_parallel() {
        return;
    }
    let template = ["printf", "[%s]\\n"];
    for (options, list) in [
        (&["-0"][..], "a b\0\0c\nd\0"),
        (&["--null"], "a"),
        (&["-d", ","], "a,,b c\n,'d',"),
        (&["--delimiter", "\\t"], "a\tb"),
        (&["-d", "\\054"], "a,b"),
    ] {
        let (ours, theirs) = both_with_list(options, &template, list);
        assert_eq!(ours, theirs, "{options:?}");
        assert!(ours.starts_with("[a"), "{ours}");
    }
}

#[test]
fn max_args_are_the_same_in_gnu_parallel() {
    if !has_parallel() {
        return;
    }
    for (max, template) in [
        ("-n2", &["printf", "[%s]\\n"][..]),
        ("-n2", &["printf", "[%s]\\n", "{}", "-", "{/}"]),
        ("--max-args=3", &["echo", "{#}", "{.}", "{}"]),
        ("-n2", &["echo", "{2}-{1}", "{1/.}"]),
        ("-n2", &["printf", "[%s]\\n", "x{}y", "{}{/}"]),
        ("-n9", &["echo", "{}"]),
    ] {
        let (ours, theirs) = both_with_list(&[max], template, "a/b.c\nd e\n\nf\ng\n");
        assert_eq!(ours, theirs, "{max} {template:?}");
    }
}

/// A program of the comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Program {
    Ours,
    Theirs,
}

const BOTH: [Program; 2] = [Program::Ours, Program::Theirs];

impl Program {
    fn command(self) -> assert_cmd::Command {
        match self {
            Self::Ours => exitring(["run", "-q"]),
            Self::Theirs => {
                let mut parallel = assert_cmd::Command::new("parallel");
                parallel.arg("--will-cite");
                parallel
            }
        }
    }

    /// Runs it with a list in its standard input. Returns what it printed, and its exit code.
    fn run(self, words: &[&str], list: &str, dir: &Path) -> (String, Option<i32>) {
        let mut command = self.command();
        let command = command.args(words).current_dir(dir).write_stdin(list);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (text, output.status.code())
    }
}

/// Runs both programs with the same words.
fn both_with(words: &[&str], list: &str, dir: &Path) -> [(String, Option<i32>); 2] {
    BOTH.map(|program| program.run(words, list, dir))
}

#[test]
fn a_list_of_commands_is_the_same_in_gnu_parallel() {
    if !has_parallel() {
        return;
    }
    let list = "echo a  b\n\n# a comment\necho 'c  d' | tr c e; echo $((1 + 2))\nX=1; echo \"$X\"\nprintf %s,%s x y\n";
    let dir = tempfile::tempdir().unwrap();
    let [ours, theirs] = both_with(&["-j1"], list, dir.path());
    // GNU parallel adds no line end at the end of the output.
    assert_eq!(ours.0, theirs.0.clone() + "\n");
    assert_eq!(ours.0, "a b\ne  d\n3\n1\nx,y\n");
    assert_eq!((ours.1, theirs.1), (Some(0), Some(0)));
    // A template, with a list from a file.
    std::fs::write(dir.path().join("list"), "a b\n").unwrap();
    let ours = stdout(exitring(["run", "-q", "list", "--", "echo"]).current_dir(dir.path()));
    let mut parallel = Command::new("parallel");
    let theirs = parallel.args(["--will-cite", "-a", "list", "echo"]);
    let theirs = theirs.current_dir(dir.path()).output().unwrap();
    assert_eq!(ours.as_bytes(), theirs.stdout);
}

#[test]
fn the_number_of_jobs_at_a_time_is_the_same_in_gnu_parallel() {
    if !has_parallel() {
        return;
    }
    // The first jobs wait until so many run. Each prints how many run.
    let job = |wanted: usize| {
        format!(
            "touch run.$$; until [ $(ls run.* | wc -l) -ge {wanted} ] || [ -e all ]; do sleep 0.02; done; touch all; \
             ls run.* | wc -l; sleep 0.2; rm run.$$\n"
        )
    };
    // In a container the processors of both may differ.
    let counted = Command::new("parallel").arg("--number-of-threads").output();
    let counted = String::from_utf8(counted.unwrap().stdout).unwrap();
    let of_parallel: usize = counted.trim().parse().unwrap();
    let ours = std::thread::available_parallelism().unwrap().get();
    let cases = |processors: usize| {
        [
            ("-j3", 3),
            ("--jobs=3", 3),
            ("-j+1", processors + 1),
            // With one processor GNU parallel has no job to run.
            ("-j-1", (processors - 1).max(1)),
            ("-j51%", (processors * 51).div_ceil(100)),
            ("--jobs=130%", (processors * 130).div_ceil(100)),
        ]
    };
    for (program, processors) in BOTH.into_iter().zip([ours, of_parallel]) {
        for (option, wanted) in cases(processors) {
            if option == "-j-1" && processors == 1 {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            let (text, _) = program.run(&[option], &job(wanted).repeat(2 * wanted), dir.path());
            let counts: Vec<usize> = text.lines().map(|it| it.trim().parse().unwrap()).collect();
            assert_eq!(counts.len(), 2 * wanted, "{option} {program:?}");
            assert_eq!(
                counts.iter().max(),
                Some(&wanted),
                "{option} {program:?}: {counts:?}"
            );
        }
    }
}

#[test]
fn keep_order_is_the_same_in_gnu_parallel() {
    if !has_parallel() {
        return;
    }
    // Jobs end in the reverse order.
    let list: String = (1..=5)
        .map(|n| {
            let next = n + 1;
            format!("until [ -e {next} ] || [ {n} = 5 ]; do sleep 0.01; done; echo {n}; echo {n}b; touch {n}\n")
        })
        .collect();
    for option in ["-k", "--keep-order"] {
        let [ours, theirs] = BOTH.map(|program| {
            let dir = tempfile::tempdir().unwrap();
            program.run(&["-j5", option], &list, dir.path()).0
        });
        assert_eq!(ours, theirs);
        assert_eq!(ours, "1\n1b\n2\n2b\n3\n3b\n4\n4b\n5\n5b\n");
    }
}

#[test]
fn tags_are_the_same_in_gnu_parallel() {
    if !has_parallel() {
        return;
    }
    let list = "a b\nc\n";
    for options in [
        &["--tag"][..],
        &["--tagstring", "x-{#}-{}"],
        &["--tagstring", "{%}:{1}", "-k"],
    ] {
        let template = ["printf", "%s\\n", "1", "{}", ""];
        let (ours, theirs) = both_with_list(options, &template, list);
        assert_eq!(ours, theirs, "{options:?}");
        assert_eq!(ours.lines().count(), 6);
    }
    let lists = ["echo", ":::", "a", "b", ":::", "c"];
    let mut parallel = assert_cmd::Command::new("parallel");
    let theirs = stdout(parallel.args(["--will-cite", "-j1", "--tag"]).args(lists));
    let ours = stdout(exitring(["run", "-q", "-j1", "--tag", "--"]).args(lists));
    assert_eq!(ours, theirs);
    assert_eq!(ours, "a c\ta c\nb c\tb c\n");
    let dir = tempfile::tempdir().unwrap();
    let [ours, theirs] = both_with(&["-j1", "--tag"], "echo  a\necho b;\n", dir.path());
    assert_eq!(ours, theirs);
}

#[test]
fn a_dry_run_is_the_same_in_gnu_parallel() {
    if !has_parallel() {
        return;
    }
    let template = ["echo", "{}", "{/.}", "{#}"];
    let list = "a/b.c\nd-e\n";
    let (ours, theirs) = both_with_list(&["--dry-run"], &template, list);
    assert_eq!(ours, theirs);
    assert_eq!(ours, "echo a/b.c b 1\necho d-e d-e 2\n");
    let dir = tempfile::tempdir().unwrap();
    let list = "touch x; echo 'a  b'\ntouch y\n";
    let [ours, theirs] = both_with(&["--dry-run", "-k"], list, dir.path());
    assert_eq!(ours, theirs);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn halt_is_the_same_in_gnu_parallel() {
    if !has_parallel() {
        return;
    }
    let jobs = ["0", "1", "0", "1", "1", "1", "0", "0", "1", "0"];
    for rule in [
        "never",
        "0",
        "1",
        "2",
        "-1",
        "-2",
        "soon,fail=1",
        "now,fail=1",
        "soon,fail=3",
        "now,fail=4",
        "soon,success=1",
        "now,success=3",
        "soon,done=2",
        "now,done=7",
        "20%",
        "soon,fail=30%",
        "now,success=25%",
        "soon,done=55%",
    ] {
        let [ours, theirs] = BOTH.map(|program| {
            let mut command = program.command();
            let command = command.args(["-j1", "--halt", rule]);
            let command = command.arg(match program {
                Program::Ours => "--",
                Program::Theirs => "-q",
            });
            let template = ["sh", "-c", "echo $0; exit $1", "{#}", "{}", ":::"];
            let output = command.args(template).args(jobs).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            (text, output.status.code() == Some(0))
        });
        assert_eq!(ours.0, theirs.0, "{rule}");
        if rule.contains("success") || rule.starts_with('-') {
            assert!(ours.1 && theirs.1, "{rule}: the exit code is 0");
        }
    }
}

#[test]
fn delay_and_timeout_are_the_same_in_gnu_parallel() {
    if !has_parallel() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for words in [&["-j1", "--timeout", "1"][..], &["-j2", "--delay", "0.2"]] {
        let list = match words.contains(&"--timeout") {
            true => "echo a\nsleep 1000; echo never\necho b\n",
            // The first job ends first, because the second one starts later.
            false => "sleep 0.1; echo a\necho b\n",
        };
        let begun = Instant::now();
        let [ours, theirs] = both_with(words, list, dir.path());
        assert_eq!(ours.0, theirs.0, "{words:?}");
        assert_eq!(ours.0.lines().count(), 2, "{words:?}: {ours:?}");
        // The least time that two runs take.
        assert!(begun.elapsed() >= Duration::from_millis(400));
    }
}

#[test]
fn the_directory_of_jobs_is_the_same_in_gnu_parallel() {
    if !has_parallel() {
        return;
    }
    let list = "pwd; echo $PWD\n";
    let theirs = Program::Theirs
        .run(&["--wd", "/usr"], list, Path::new("/"))
        .0;
    let ours = Program::Ours
        .run(&["--cwd", "/usr"], list, Path::new("/"))
        .0;
    assert_eq!(ours, theirs);
    assert_eq!(ours, "/usr\n/usr\n");
}

#[test]
fn ungrouped_output_is_the_same_in_gnu_parallel() {
    if !has_parallel() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let list = "printf a\nprintf b; printf 'c\\n'\n";
    let theirs = Program::Theirs
        .run(&["-j1", "--ungroup"], list, dir.path())
        .0;
    let ours = Program::Ours.run(&["-j1", "--inherit"], list, dir.path()).0;
    assert_eq!(ours, theirs);
    assert_eq!(ours, "abc\n");
}
