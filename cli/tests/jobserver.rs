//! The jobserver of GNU make: runs that take part in one, and runs that provide one.

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags, fcntl_getfl, mkfifoat};

use common::job_record::{Record, make};
use common::*;

/// A FIFO with tokens, as make 4.4 creates it.
struct Fifo {
    path: PathBuf,
    file: File,
}

impl Fifo {
    fn new(dir: &Path, tokens: &str) -> Self {
        let path = dir.join("jobserver");
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open(&path)
            .unwrap();
        (&file).write_all(tokens.as_bytes()).unwrap();
        Self { path, file }
    }

    fn flags(&self) -> String {
        format!(" -j4 --jobserver-auth=fifo:{}", self.path.display())
    }

    /// Takes all tokens, sorted.
    fn tokens(&self) -> String {
        sorted_tokens(&self.file)
    }
}

fn sorted_tokens(mut from: &File) -> String {
    let mut tokens = Vec::new();
    match from.read_to_end(&mut tokens) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        other => panic!("{other:?}"),
    }
    tokens.sort_unstable();
    String::from_utf8(tokens).unwrap()
}

#[test]
fn a_run_in_make_takes_part_in_its_jobserver() {
    let record = Record::new();
    record.write("list", record.list(40, 4));
    let makefile = "all:\n\t+@$(EXITRING) run -q -j8 list\n";
    assert_eq!(make(&record, &["-j4"], makefile), "");
    assert_eq!((record.started(), record.overlap()), (40, 4));
}

#[test]
fn runs_and_other_recipes_of_make_share_its_jobs() {
    let record = Record::new();
    record.write("list", record.list(20, 4));
    record.write("job", record.job(4));
    let makefile = "all: a b c d\na b:\n\t+@$(EXITRING) run -q -j8 list\nc d:\n\t@sh job; sh job\n";
    assert_eq!(make(&record, &["-j4"], makefile), "");
    assert_eq!((record.started(), record.overlap()), (44, 4));
}

#[test]
fn j_stays_the_limit_in_make() {
    let record = Record::new();
    record.write("list", record.list(20, 2));
    let makefile = "all:\n\t+@$(EXITRING) run -q -j2 list\n";
    assert_eq!(make(&record, &["-j4"], makefile), "");
    assert_eq!((record.started(), record.overlap()), (20, 2));
}

#[test]
fn a_recipe_without_plus_has_no_jobserver() {
    for (options, jobs) in [("", 1), ("-j3", 3)] {
        let record = Record::new();
        record.write("list", record.list(12, jobs));
        let makefile = format!("all:\n\t@$(EXITRING) run -q {options} list\n");
        let stderr = make(&record, &["-j4"], &makefile);
        assert!(stderr.contains("begin the line with +"), "{stderr}");
        assert_eq!((record.started(), record.overlap()), (12, jobs));
    }
}

#[test]
fn the_jobserver_can_be_ignored() {
    let record = Record::new();
    record.write("list", record.list(12, 5));
    let makefile = "all:\n\t+@$(EXITRING) run -q -j5 --no-jobserver list\n";
    assert_eq!(make(&record, &["-j2"], makefile), "");
    assert_eq!((record.started(), record.overlap()), (12, 5));
}

#[test]
fn every_token_is_put_back_however_jobs_end() {
    for (options, list, code) in [
        (&[][..], "false\n./none\nkill -9 $$\n", 1),
        (&["--retries", "2"], "kill -9 $$\nfalse\n", 1),
        (
            &["--timeout", "50ms", "--grace", "50ms"],
            "trap '' TERM; sleep 1000\n",
            1,
        ),
        (
            &["--halt", "now,fail=1"],
            "sleep 1000\nsleep 1000\nfalse\n",
            1,
        ),
        (&["--stdin", "none"], "cat\n", 1),
        (&["--append", "/dev/full"], "echo x\n", 1),
        (&["--halt", "soon,fail=1"], "true\nfalse\n", 1),
        (&["--delay", "1ms"], "true\n", 0),
    ] {
        let record = Record::new();
        let fifo = Fifo::new(record.dir(), "abc");
        let mut run = exitring(["run", "-q", "-j8"]);
        // A job that a timeout ends would not record its end.
        let recorded = if options.contains(&"--timeout") {
            0
        } else {
            10
        };
        let list = list.repeat(4) + &record.list(recorded, 1);
        let run = run.args(options).env("MAKEFLAGS", fifo.flags());
        let output = run.current_dir(record.dir()).write_stdin(list).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(code), "{options:?} {output:?}");
        assert!(record.overlap() <= 4, "{options:?}");
        // Each byte may have a meaning, so the same ones are put back.
        assert_eq!(fifo.tokens(), "abc", "{options:?}");
    }
}

#[test]
fn interrupted_runs_put_all_tokens_back() {
    for signal_number in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
        let record = Record::new();
        let fifo = Fifo::new(record.dir(), "abc");
        // None of them ends.
        let list = record.write("list", record.list(20, 100));
        let mut command = std_exitring(["run", "-q", "-j8"]);
        command.arg(list).env("MAKEFLAGS", fifo.flags());
        let mut run = Started::new(command.stderr(Stdio::null()));
        wait_until("four jobs", || record.started() == 4);
        assert_eq!(fifo.tokens(), "");
        signal(&run.0, signal_number);
        assert_eq!(run.code(), Some(130));
        assert_eq!(fifo.tokens(), "abc");
    }
}

#[test]
fn a_run_waits_for_tokens() {
    let record = Record::new();
    let fifo = Fifo::new(record.dir(), "");
    let list = record.write("list", record.list(3, 3));
    let mut command = std_exitring(["run", "-q", "-j3"]);
    let mut run = Started::new(command.arg(list).env("MAKEFLAGS", fifo.flags()));
    wait_until("the first job", || record.started() == 1);
    (&fifo.file).write_all(b"x").unwrap();
    wait_until("the second job", || record.started() == 2);
    (&fifo.file).write_all(b"y").unwrap();
    assert_eq!(run.code(), Some(0));
    assert_eq!(record.overlap(), 3);
    assert_eq!(fifo.tokens(), "xy");
}

/// Has the child inherit a descriptor under this number.
fn inherit(command: &mut Command, file: &impl AsRawFd, number: i32) {
    let file = file.as_raw_fd();
    // SAFETY: the call takes no pointers.
    let map = move || match unsafe { libc::dup2(file, number) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    };
    // SAFETY: the closure makes one system call.
    unsafe { command.pre_exec(map) };
}

/// A pipe with tokens, which `command` inherits as 20 and 21.
fn pipe(command: &mut Command, tokens: &str) -> (OwnedFd, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    rustix::io::write(&write, tokens.as_bytes()).unwrap();
    inherit(command, &read, 20);
    inherit(command, &write, 21);
    command.env("MAKEFLAGS", "k -j4 --jobserver-auth=20,21 -- X=1");
    (read, write)
}

#[test]
fn an_inherited_pipe_keeps_its_flags_and_tokens() {
    let record = Record::new();
    let list = record.write("list", record.list(20, 4));
    let mut command = std_exitring(["run", "-q", "-j8"]);
    let (read, write) = pipe(&mut command, "abc");
    let mut run = Started::new(command.arg(list));
    wait_until("four jobs", || record.started() >= 4);
    for end in [&read, &write] {
        // Other clients read it blocking.
        assert!(!fcntl_getfl(end).unwrap().contains(OFlags::NONBLOCK));
    }
    assert_eq!(run.code(), Some(0));
    assert_eq!(record.overlap(), 4);
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK).unwrap();
    assert_eq!(sorted_tokens(&read.into()), "abc");
    drop(write);
}

#[test]
fn a_run_goes_on_when_its_jobserver_vanishes() {
    let record = Record::new();
    let list = record.write("list", record.list(20, 2));
    let mut command = std_exitring(["run", "-q", "-j8"]);
    let ends = pipe(&mut command, "");
    let mut run = Started::new(command.arg(&list));
    wait_until("the first job", || record.started() == 1);
    rustix::io::write(&ends.1, b"x").unwrap();
    drop(ends);
    assert_eq!(run.code(), Some(0));
    assert_eq!((record.started(), record.overlap()), (20, 2));

    let record = Record::new();
    let fifo = Fifo::new(record.dir(), "");
    let mut command = std_exitring(["run", "-q", "-j8"]);
    let list = record.write("list", record.list(5, 2));
    let mut run = Started::new(command.arg(list).env("MAKEFLAGS", fifo.flags()));
    wait_until("the first job", || record.started() == 1);
    fs::remove_file(&fifo.path).unwrap();
    (&fifo.file).write_all(b"x").unwrap();
    drop(fifo);
    assert_eq!(run.code(), Some(0));
    assert_eq!((record.started(), record.overlap()), (5, 2));
}

#[test]
fn a_jobserver_that_is_missing_is_reported() {
    let record = Record::new();
    let file = record.write("file", "text");
    let other = File::options().read(true).write(true).open(&file).unwrap();
    let (read, _write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let (_read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    for (auth, why) in [
        ("fifo:/none".into(), "/none"),
        (format!("fifo:{}", file.display()), "not a pipe"),
        ("fifo:".into(), "cannot be used"),
        ("20,21".into(), "descriptor 20 is not open"),
        ("-2,-2".into(), "does not pass it on"),
        ("22,22".into(), "not a pipe"),
        ("23,24".into(), "not the ends of one pipe"),
        ("99999999999,1".into(), "its kind is unknown"),
        ("semaphore".into(), "its kind is unknown"),
    ] {
        let mut command = std_exitring(["run", "--quiet"]);
        inherit(&mut command, &other, 22);
        inherit(&mut command, &read, 23);
        inherit(&mut command, &write, 24);
        command.env("MAKEFLAGS", format!("-j --jobserver-auth={auth}"));
        let mut command = assert_cmd::Command::from_std(command);
        let output = command.write_stdin("echo a\necho b\n").output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(why), "{auth}: {stderr}");
        assert!(stderr.contains("one job runs at a time"), "{stderr}");
        assert_eq!(
            (output.status.code(), &*output.stdout),
            (Some(0), &b"a\nb\n"[..])
        );
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "text");
}

#[test]
fn jobs_that_are_make_share_the_jobs_of_a_run() {
    let record = Record::new();
    record.write("job", record.job(4));
    record.write(
        "Makefile",
        "all: a b c d e f g h\na b c d e f g h:\n\t@sh job\n",
    );
    let mut run = exitring(["run", "-q", "-j4", "--jobserver"]);
    let run = run
        .current_dir(record.dir())
        .write_stdin("make\n".repeat(3));
    let output = run.output().unwrap();
    assert_eq!(
        (&*output.stdout, &*output.stderr),
        (&b""[..], &b""[..]),
        "{output:?}"
    );
    assert_eq!((record.started(), record.overlap()), (24, 4));
}

#[test]
fn runs_in_runs_share_the_jobs_of_the_outermost() {
    for style in ["--jobserver=pipe", "--jobserver=fifo"] {
        let record = Record::new();
        record.write("inner", record.list(10, 4));
        record.write(
            "middle",
            format!("{EXITRING} run -q -j8 --jobserver inner\n").repeat(3),
        );
        let temp = record.dir().join("temp");
        fs::create_dir(&temp).unwrap();
        let mut run = exitring(["run", "-q", "-j4", style]);
        let run = run.current_dir(record.dir()).env("TMPDIR", &temp);
        let list = format!("{EXITRING} run -q -j8 middle\n").repeat(2) + &record.list(10, 4);
        let output = run.write_stdin(list).output().unwrap();
        assert_eq!(
            (&*output.stdout, &*output.stderr),
            (&b""[..], &b""[..]),
            "{output:?}"
        );
        assert_eq!((record.started(), record.overlap()), (70, 4), "{style}");
        // The FIFO is removed.
        assert_eq!(fs::read_dir(temp).unwrap().count(), 0);
    }
}

#[test]
fn jobs_find_the_jobserver_in_makeflags() {
    let mut run = exitring(["run", "-q", "-j3", "--jobserver"]);
    let run = run
        .env("MAKEFLAGS", "k -- X=1")
        .write_stdin("echo $MAKEFLAGS\n");
    let flags = stdout(run);
    assert!(flags.starts_with("k -j3 --jobserver-auth="), "{flags}");
    assert!(flags.ends_with(" -- X=1\n"), "{flags}");
    // Without the option the variable is left alone.
    let mut run = exitring(["run", "-q", "-j3"]);
    let run = run
        .env("MAKEFLAGS", "k -- X=1")
        .write_stdin("echo $MAKEFLAGS\n");
    assert_eq!(stdout(run), "k -- X=1\n");
}

/// A job that takes all three tokens of a run with `-j4 --jobserver=fifo`, and dies.
const THIEF: &str = "head -c 3 <\"${MAKEFLAGS##*fifo:}\" >taken; kill -9 $$\n";

#[test]
fn tokens_of_killed_jobs_are_replaced() {
    let record = Record::new();
    let mut command = std_exitring(["run", "-q", "-j4", "--jobserver=fifo", "--output", "jsonl"]);
    let command = command.current_dir(record.dir()).stdin(Stdio::piped());
    let mut run = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut list = run.stdin.take().unwrap();
    let out = io::BufReader::new(run.stdout.take().unwrap());
    let mut records = io::BufRead::lines(out);
    for _ in 0..3 {
        list.write_all(THIEF.as_bytes()).unwrap();
        let ended = records.next().unwrap().unwrap();
        assert!(ended.contains("\"signal\":9"), "{ended}");
        assert_eq!(
            fs::read_to_string(record.dir().join("taken")).unwrap(),
            "+++"
        );
    }
    list.write_all(record.list(10, 4).as_bytes()).unwrap();
    drop(list);
    assert_eq!(records.count(), 10);
    assert_eq!(run.wait().unwrap().code(), Some(1));
    assert_eq!(record.overlap(), 4);
}

#[test]
fn the_fifo_is_removed_after_an_interrupt() {
    let record = Record::new();
    let list = record.write("list", record.list(4, 100));
    let temp = record.dir().join("temp");
    fs::create_dir(&temp).unwrap();
    let mut command = std_exitring(["run", "-q", "-j4", "--jobserver=fifo"]);
    command.arg(list).env("TMPDIR", &temp).stderr(Stdio::null());
    let mut run = Started::new(&mut command);
    wait_until("four jobs", || record.started() == 4);
    assert_eq!(fs::read_dir(&temp).unwrap().count(), 1);
    signal(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
    assert_eq!(fs::read_dir(&temp).unwrap().count(), 0);
}

#[test]
fn signals_change_the_number_of_tokens() {
    let record = Record::new();
    let dir = record.dir().display();
    // The first job holds the run open while others use its tokens.
    let list = record.write(
        "list",
        format!("echo \"${{MAKEFLAGS##*fifo:}}\" >{dir}/path; until [ -e {dir}/go ]; do sleep 0.01; done\n"),
    );
    let mut command = std_exitring(["run", "-q", "-j2", "--jobserver=fifo"]);
    let mut run = Started::new(command.arg(list).stderr(Stdio::null()));
    let path = record.dir().join("path");
    wait_until("the job", || {
        fs::read_to_string(&path).is_ok_and(|path| path.ends_with('\n'))
    });
    let path = fs::read_to_string(path).unwrap();
    let nonblocking = OFlags::NONBLOCK.bits() as i32;
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(nonblocking);
    let fifo = options.open(path.trim_end()).unwrap();
    let available = || rustix::io::ioctl_fionread(&fifo).unwrap();
    assert_eq!(available(), 1);
    signal(&run.0, libc::SIGUSR1);
    wait_until("another token", || available() == 2);
    signal(&run.0, libc::SIGUSR2);
    wait_until("a token less", || available() == 1);
    fs::write(record.dir().join("go"), "").unwrap();
    assert_eq!(run.code(), Some(0));
}

#[test]
fn jobs_that_cannot_start_hold_no_tokens() {
    let light = "echo + >> record; until [ -e go ]; do sleep 0.02; done";
    let weights = format!("{light}\n{light} #exitring: weight=8\n{light}\n{light}\n");
    let group = format!("{light} #exitring: group=a\n").repeat(4);
    for list in [weights, group] {
        let record = Record::new();
        let fifo = Fifo::new(record.dir(), "abcdefg");
        record.write("list", list);
        let mut command = std_exitring(["run", "-q", "-j8", "list"]);
        command
            .current_dir(record.dir())
            .env("MAKEFLAGS", fifo.flags());
        let mut run = Started::new(&mut command);
        wait_until("the first job", || record.started() == 1);
        // Time to take tokens.
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(rustix::io::ioctl_fionread(&fifo.file), Ok(7));
        record.write("go", "");
        assert_eq!(run.code(), Some(0));
        assert_eq!((record.started(), fifo.tokens()), (4, "abcdefg".into()));
    }
}
