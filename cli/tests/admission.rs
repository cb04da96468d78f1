//! What holds up starts: load, memory, pressure, weights, and groups.

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{EXITRING, Started, exitring, jobs, signal, std_exitring, wait_until};
use serde_json::Value;
use tempfile::TempDir;

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Starts a run of the list, whose standard error goes to the file `err`.
fn start(dir: &TempDir, command: &mut Command, list: &str) -> Started {
    fs::write(dir.path().join("list"), list).unwrap();
    let err = File::create(dir.path().join("err")).unwrap();
    Started::new(command.arg("list").stderr(err).current_dir(dir.path()))
}

/// Threads that keep the processors busy until they are dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn new(threads: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..threads {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_job_starts_above_the_load() {
    let dir = TempDir::new().unwrap();
    let _busy = Busy::new(1);
    let mut command = std_exitring(["run", "--load", "0.0001"]);
    let mut run = start(&dir, &mut command, "echo > ran\n");
    wait_until("the message", || {
        read(dir.path().join("err")).contains("waiting: load ")
    });
    signal(&run.0, libc::SIGINT);
    assert_eq!(run.code(), Some(130));
    assert!(!dir.path().join("ran").exists());
}

#[test]
fn no_job_starts_without_free_memory() {
    let dir = TempDir::new().unwrap();
    let mut command = std_exitring(["run", "--memfree", "1000P"]);
    let mut run = start(&dir, &mut command, "echo > ran\n");
    let message = "waiting: free memory ";
    wait_until("the message", || {
        read(dir.path().join("err")).contains(message)
    });
    signal(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
    assert!(!dir.path().join("ran").exists());
}

#[test]
fn jobs_start_where_the_conditions_hold() {
    let output = exitring([
        "run",
        "--load",
        "1000000",
        "--memfree",
        "1",
        "--pressure",
        "memory=100",
        "--output",
        "jsonl",
    ])
    .write_stdin("true\n".repeat(20))
    .output()
    .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    if text.contains("--pressure needs /proc/pressure") && std::env::var_os("CI").is_none() {
        return println!("not run: {text}");
    }
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(jobs(&String::from_utf8(output.stdout).unwrap()).len(), 20);
}

#[test]
fn pressure_holds_up_starts() {
    if File::open("/proc/pressure/cpu").is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI needs /proc/pressure");
        return println!("not run: no pressure stall information");
    }
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let _busy = Busy::new(2 * processors);
    let dir = TempDir::new().unwrap();
    let mut command = std_exitring(["run", "-j1", "--pressure", "cpu=0.01"]);
    let mut run = start(&dir, &mut command, &"sleep 0.1\n".repeat(10_000));
    let message = "waiting: cpu pressure ";
    wait_until("the message", || {
        read(dir.path().join("err")).contains(message)
    });
    signal(&run.0, libc::SIGINT);
    assert_eq!(run.code(), Some(130));
}

/// `exitring` in a mount namespace in which a file of the directory stands for one in `/proc`; `None`
/// where namespaces are not permitted.
fn with_proc_file(dir: &TempDir, file: &str, text: &str, words: &[&str]) -> Option<Command> {
    let fake = dir.path().join("fake");
    match text.is_empty() {
        true => fs::create_dir(&fake).unwrap(),
        false => fs::write(&fake, text).unwrap(),
    }
    let root = rustix::process::geteuid().is_root();
    let user: &[&str] = if root {
        &[]
    } else {
        &["--user", "--map-root-user"]
    };
    let script = "mount --bind fake \"$0\" && exec \"$@\"";
    let unshare = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command
            .args(user)
            .args(["--mount", "sh", "-c", script, file]);
        command
            .args(words)
            .current_dir(dir.path())
            .stdin(Stdio::null());
        command
    };
    let tried = unshare(&["true"]).stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must permit mount namespaces"
        );
        println!("not run: mount namespaces are not permitted");
        return None;
    }
    Some(unshare(&[&[EXITRING], words].concat()))
}

/// Replaces the beginning of the file, in one write.
fn rewrite(dir: &TempDir, text: &str) {
    let file = OpenOptions::new().write(true).open(dir.path().join("fake"));
    file.unwrap().write_all_at(text.as_bytes(), 0).unwrap();
}

#[test]
fn starts_resume_when_the_load_has_fallen() {
    let dir = TempDir::new().unwrap();
    let words = ["run", "--load", "8"];
    let Some(mut command) =
        with_proc_file(&dir, "/proc/loadavg", "9.10 0.00 0.00 1/100 1\n", &words)
    else {
        return;
    };
    let mut run = start(&dir, &mut command, "echo > ran\ntrue\n");
    let message = "waiting: load 9.1 >= 8\n";
    wait_until("the message", || {
        read(dir.path().join("err")).contains(message)
    });
    assert!(!dir.path().join("ran").exists());
    rewrite(&dir, "7.90");
    assert_eq!(run.code(), Some(0));
    assert!(dir.path().join("ran").exists());
}

#[test]
fn a_token_of_make_is_put_back_while_the_load_is_high() {
    let dir = TempDir::new().unwrap();
    let words = ["run", "-j2", "--load", "8"];
    let load = "1.00 0.00 0.00 1/100 1\n";
    let Some(mut command) = with_proc_file(&dir, "/proc/loadavg", load, &words) else {
        return;
    };
    let fifo = dir.path().join("jobserver");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o600.into()).unwrap();
    let mut options = OpenOptions::new();
    let mut tokens = options.read(true).write(true).open(&fifo).unwrap();
    let available = |tokens: &File| rustix::io::ioctl_fionread(tokens).unwrap();
    let job = "echo >> ran; until [ -e go ]; do sleep 0.01; done\n";
    command.env(
        "MAKEFLAGS",
        format!(" -j2 --jobserver-auth=fifo:{}", fifo.display()),
    );
    let mut run = start(&dir, &mut command, &job.repeat(2));
    let ran = || read(dir.path().join("ran")).len();
    wait_until("the first job", || ran() == 1);
    // Time to request a token for the second job.
    thread::sleep(std::time::Duration::from_millis(300));
    rewrite(&dir, "9.10");
    tokens.write_all(b"x").unwrap();
    // Time to take the token, and to read the load.
    thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!((ran(), available(&tokens)), (1, 1));
    rewrite(&dir, "7.90");
    wait_until("the second job", || ran() == 2);
    assert_eq!(available(&tokens), 0);
    fs::write(dir.path().join("go"), "").unwrap();
    assert_eq!((run.code(), available(&tokens)), (Some(0), 1));
}

#[test]
fn the_youngest_job_is_put_back_while_memory_is_short() {
    let dir = TempDir::new().unwrap();
    let words = [
        "run",
        "-j2",
        "--memfree",
        "1G",
        "--output",
        "jsonl",
        "--joblog",
        "log",
        "--trace",
        "trace",
        "--report",
        "page",
    ];
    let enough = "MemAvailable: 2097152 kB\n";
    let Some(mut command) = with_proc_file(&dir, "/proc/meminfo", enough, &words) else {
        return;
    };
    let job = "echo $EXITRING_JOB >> started; while ! [ -e go ]; do sleep 0.05; done\n";
    let mut run = start(&dir, command.stdout(Stdio::null()), &job.repeat(2));
    let started = || read(dir.path().join("started")).lines().count();
    wait_until("both jobs run", || started() == 2);
    rewrite(&dir, "MemAvailable:  102400 kB\n");
    let message = "job 2 is ended and put back: 100.0 MiB of memory are free";
    wait_until("the message", || {
        read(dir.path().join("err")).contains(message)
    });
    // Enough for the only job that runs, and too little for a start.
    rewrite(&dir, "MemAvailable:  524288 kB\n");
    rewrite(&dir, enough);
    wait_until("it runs again", || started() == 3);
    fs::write(dir.path().join("go"), "").unwrap();
    assert_eq!(run.code(), Some(0));
    let jobs = jobs(&read(dir.path().join("log")));
    assert_eq!(jobs.len(), 2);
    assert!(jobs.iter().all(|job| job["success"] == true), "{jobs:?}");
    assert_eq!(
        (&jobs[0]["attempts"], &jobs[1]["attempts"]),
        (&1.into(), &2.into())
    );
    let err = read(dir.path().join("err"));
    assert!(err.contains("2 succeeded, 0 failed, 1 put back"), "{err}");
    let trace: Value = serde_json::from_str(&read(dir.path().join("trace"))).unwrap();
    let attempts = trace.as_array().unwrap().iter();
    let mut attempts: Vec<_> = attempts
        .filter(|event| event["ph"] == "X")
        .map(|event| {
            (
                &event["args"]["job"],
                &event["args"]["attempt"],
                &event["cat"],
            )
        })
        .map(|(job, attempt, kind)| format!("{job} {attempt} {kind}"))
        .collect();
    attempts.sort();
    let expected = [
        "1 1 \"succeeded\"",
        "2 1 \"interrupted,retried\"",
        "2 2 \"succeeded\"",
    ];
    assert_eq!(attempts, expected);
    let page = read(dir.path().join("page"));
    assert!(page.contains("ended and put back"), "{page}");
}

#[test]
fn a_job_is_not_put_back_because_the_output_of_an_ended_one_waits() {
    let dir = TempDir::new().unwrap();
    let words = ["run", "-j2", "--memfree", "1G"];
    let enough = "MemAvailable: 2097152 kB\n";
    let Some(mut command) = with_proc_file(&dir, "/proc/meminfo", enough, &words) else {
        return;
    };
    // The long line holds up the output of the other job, whose background process has the pipe.
    // It makes no progress, so it is split after 10 s. Only then that job is complete.
    let list = "head -c 1200000 /dev/zero; touch long; until [ -e go ]; do sleep 0.02; done\n\
                until [ -e long ]; do sleep 0.02; done; sleep 1000 & echo x; echo $$ $! > ended\n";
    let mut run = start(&dir, command.stdout(Stdio::null()), list);
    let ended = dir.path().join("ended");
    wait_until("the job", || read(&ended).ends_with('\n'));
    let pids = read(&ended);
    let (shell, background) = pids.trim().split_once(' ').unwrap();
    let proc = std::path::Path::new("/proc").join(shell);
    wait_until("its end", || !proc.exists());
    rewrite(&dir, "MemAvailable:  102400 kB\n");
    let split = "a line longer than 1 MiB was split";
    wait_until("the split", || read(dir.path().join("err")).contains(split));
    fs::write(dir.path().join("go"), "").unwrap();
    assert_eq!(run.code(), Some(0));
    let killed = Command::new("kill").arg(background).status();
    assert!(killed.unwrap().success());
    let err = read(dir.path().join("err"));
    assert!(!err.contains("put back"), "{err}");
}

#[test]
fn missing_pressure_information_is_an_error_before_anything_runs() {
    let dir = TempDir::new().unwrap();
    let words = ["run", "--pressure", "io=10"];
    let Some(mut command) = with_proc_file(&dir, "/proc/pressure", "", &words) else {
        return;
    };
    let mut run = start(&dir, &mut command, "echo > ran\n");
    assert_eq!(run.code(), Some(3));
    assert!(!dir.path().join("ran").exists());
    let err = read(dir.path().join("err"));
    assert!(err.contains("--pressure needs /proc/pressure/io"), "{err}");
    assert!(err.contains("psi=1"), "{err}");
}

/// Runs a list in a new directory, and requires success.
fn run_all(arguments: &[&str], list: &str) {
    let dir = TempDir::new().unwrap();
    let output = exitring(arguments.iter().copied())
        .current_dir(dir.path())
        .write_stdin(list)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
}

#[test]
fn jobs_of_a_group_run_one_after_the_other() {
    let alone = "mkdir lock || exit 1; sleep 0.02; rmdir lock #exitring: group=db\n";
    run_all(&["run", "-j8"], &alone.repeat(20));
    let again = format!("[ $EXITRING_ATTEMPT = 2 ] || exit 1; {alone}");
    run_all(&["run", "-j8", "--retries", "1"], &again.repeat(10));
}

#[test]
fn jobs_of_a_busy_group_do_not_hold_up_others() {
    let list = "while ! [ -e go ]; do sleep 0.01; done #exitring: group=db\n\
                true #exitring: group=db\n\
                echo > go\n";
    run_all(&["run", "-j2"], list);
    // More of them than are read ahead at a time.
    let many = "true #exitring: group=db\n".repeat(3000);
    run_all(&["run", "-j2"], &many);
}

#[test]
fn a_heavy_job_takes_the_places_of_several() {
    // Weight 4 with -j 4, and more than that, is alone.
    for weight in [4, 9] {
        let heavy =
            format!("mkdir lock || exit 1; sleep 0.02; rmdir lock #exitring: weight={weight}\n");
        let light = "! [ -e lock ]\n".repeat(4);
        run_all(&["run", "-j4"], &format!("{heavy}{light}").repeat(5));
    }
    // Two of weight 2 run together: each waits for the other.
    let meet = |own: &str, other: &str| {
        format!("echo > {own}; while ! [ -e {other} ]; do sleep 0.01; done #exitring: weight=2\n")
    };
    run_all(&["run", "-j4"], &(meet("a", "b") + &meet("b", "a")));
}

#[test]
fn the_directive_is_no_part_of_the_command() {
    let output = exitring(["run", "--no-shell", "--output", "jsonl"])
        .write_stdin("echo a #exitring: weight=2\necho b #exitring: wieght=2\n")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let jobs = jobs(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(
        (&jobs[0]["command"], &jobs[0]["success"]),
        (&"echo a".into(), &true.into())
    );
    assert_eq!(jobs[1]["outcome"], "not_started");
    assert!(
        jobs[1]["reason"].as_str().unwrap().contains("weight=N"),
        "{jobs:?}"
    );
}

#[test]
fn invalid_conditions_are_refused() {
    for words in [
        ["--load", "-1"],
        ["--load", "+2"],
        ["--load", "high"],
        ["--memfree", "50%"],
        ["--memfree", "1GB"],
        ["--pressure", "50"],
        ["--pressure", "cpu=0"],
        ["--pressure", "disk=10"],
    ] {
        let output = exitring(["run", words[0], words[1], "--", "true"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
}
