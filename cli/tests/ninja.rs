//! ninja as a client of jobservers: of make through a run, and of a run.

mod common;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::job_record::{Record, make};
use common::*;

/// A ninja that takes part in jobservers.
struct Ninja {
    path: PathBuf,
    /// Also in those that are a pipe. The original knows FIFOs only, the package on PyPI both.
    knows_pipes: bool,
}

/// ninja 1.13 or later, from the directory of builds or from `PATH`. In CI it must be there.
fn ninja() -> Option<Ninja> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/venv/bin/ninja");
    let found = [built, "ninja".into()].into_iter().find_map(|path| {
        let output = Command::new(&path).arg("--version").output().ok()?;
        let version = String::from_utf8(output.stdout).ok()?;
        let mut numbers = version.split('.').map(|number| number.parse::<u32>());
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return None;
        };
        ((major, minor) >= (1, 13)).then(|| Ninja {
            path,
            knows_pipes: version.contains("jobserver-pipe"),
        })
    });
    assert!(
        found.is_some() || env::var_os("CI").is_none(),
        "CI needs ninja 1.13: target/venv/bin/pip install 'ninja>=1.13'"
    );
    if found.is_none() {
        eprintln!("not tested: there is no ninja 1.13 (pip install 'ninja>=1.13')");
    }
    found
}

/// Makes directories with ten jobs for ninja each. None of these ends before `together` of all have
/// started. Returns a list that builds them.
fn builds(record: &Record, ninja: &Ninja, names: &[&str], together: usize) -> String {
    let job = record.write("job", record.job(together));
    let mut text = format!("rule job\n  command = sh {}\n", job.display());
    for number in 0..10 {
        text += &format!("build {number}: job\n");
    }
    let build = |name: &&str| {
        fs::create_dir(record.dir().join(name)).unwrap();
        record.write(&format!("{name}/build.ninja"), &text);
        format!("{} --quiet -C {name}\n", ninja.path.display())
    };
    names.iter().map(build).collect()
}

#[test]
fn several_ninja_share_the_jobs_of_a_run() {
    let Some(ninja) = ninja() else { return };
    for style in ["--jobserver=fifo", "--jobserver=pipe"] {
        if style == "--jobserver=pipe" && !ninja.knows_pipes {
            eprintln!("not tested: {style}: this ninja knows FIFOs only");
            continue;
        }
        let record = Record::new();
        let list = builds(&record, &ninja, &["a", "b", "c"], 4);
        let mut run = exitring(["run", "-q", "-j4", style]);
        let output = run.current_dir(record.dir()).write_stdin(list).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!((record.started(), record.overlap()), (30, 4), "{style}");
    }
}

#[test]
fn a_single_ninja_has_all_jobs_of_a_run() {
    let Some(ninja) = ninja() else { return };
    let record = Record::new();
    let list = builds(&record, &ninja, &["a"], 4);
    let mut run = exitring(["run", "-q", "-j4", "--jobserver=fifo"]);
    let output = run.current_dir(record.dir()).write_stdin(list).output();
    assert_eq!(output.unwrap().status.code(), Some(0));
    assert_eq!((record.started(), record.overlap()), (10, 4));
}

#[test]
fn ninja_in_a_run_in_make_shares_the_jobs_of_make() {
    let Some(ninja) = ninja() else { return };
    // make 4.4 has a FIFO if it is asked for one, older versions have a pipe.
    let output = Command::new("make").arg("--help").output().unwrap();
    let has_fifo = String::from_utf8_lossy(&output.stdout).contains("--jobserver-style");
    let options = match (has_fifo, ninja.knows_pipes) {
        (true, _) => &["-j4", "--jobserver-style=fifo"][..],
        (false, true) => &["-j4"],
        (false, false) => {
            eprintln!("not tested: make is older than 4.4, and this ninja knows FIFOs only");
            return;
        }
    };
    let record = Record::new();
    record.write("list", builds(&record, &ninja, &["a", "b", "c"], 4));
    record.write("job-of-make", record.job(4));
    let makefile =
        "all: run other\nrun:\n\t+@$(EXITRING) run -q -j8 list\nother:\n\t@sh job-of-make\n";
    assert_eq!(make(&record, options, makefile), "");
    assert_eq!((record.started(), record.overlap()), (31, 4));
}
