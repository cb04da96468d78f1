//! The examples of options in the man pages: each option has one, and each prints what the page
//! says.
//!
//! An example is a console session in the text of `exitring man`: `$ ` and a command, whose further
//! lines begin with `> `, then what it prints. In a line `...` stands for any text, as a line for
//! any lines; `[N]` is an exit status that is not 0.

mod common;
#[cfg(feature = "queue")]
#[allow(dead_code)]
#[path = "queue/secured_server.rs"]
mod secured_server;
#[cfg(feature = "queue")]
#[allow(dead_code)]
#[path = "queue/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::*;

/// The subcommands whose options have examples. Those of `serve` are settings of a service that
/// runs until it is ended; the tests of the service use all of them.
const SUBCOMMANDS: &[&str] = &[
    "run",
    "wait",
    "doctor",
    "watch",
    "exits",
    "completions",
    "man",
];

/// Options that explain themselves, and the one that is hidden, for benchmarks.
const LEFT_OUT: &[&str] = &["--help", "--version", "--starters"];

/// The servers of a queue in the examples.
const QUEUE: &str = "nats://host/";
#[cfg(feature = "queue")]
const QUEUE_WITH_TLS: &str = "tls://host/";

/// What an option needs that a machine may lack.
enum Need {
    /// script(1), as a terminal for the example.
    Terminal,
    /// A delegated cgroup, with controllers for the limits.
    Cgroups,
    /// /proc/pressure.
    Pressure,
    /// make.
    Make,
}

const NEEDS: &[(&str, Need)] = &[
    ("--bar", Need::Terminal),
    ("--watch", Need::Terminal),
    ("--contain", Need::Cgroups),
    ("--fail-leaky", Need::Cgroups),
    ("--memory", Need::Cgroups),
    ("--pids", Need::Cgroups),
    ("--cpus", Need::Cgroups),
    ("--pressure", Need::Pressure),
    ("--no-jobserver", Need::Make),
];

/// One command of a session.
#[derive(Debug)]
struct Step {
    command: String,
    /// The lines that it prints, with the exit status at their end.
    expected: Vec<String>,
}

/// The sessions of a page. Each has a directory of its own.
fn sessions(page: &str) -> Vec<Vec<Step>> {
    let mut sessions: Vec<Vec<Step>> = Vec::new();
    let mut in_session = false;
    for line in page.lines() {
        let Some(line) = line.strip_prefix(&" ".repeat(11)) else {
            in_session &= line.is_empty();
            continue;
        };
        if let Some(command) = line.strip_prefix("$ ") {
            if !in_session {
                sessions.push(Vec::new());
                in_session = true;
            }
            let command = command.to_owned();
            let expected = Vec::new();
            let session = sessions.last_mut().expect("a session");
            session.push(Step { command, expected });
        } else if in_session {
            let session = sessions.last_mut().expect("a session");
            let step = session.last_mut().expect("a command");
            match (line.strip_prefix("> "), step.expected.is_empty()) {
                (Some(more), true) => step.command.extend(["\n", more]),
                _ => step.expected.push(line.to_owned()),
            }
        }
    }
    sessions
}

/// Whether a text is as expected, where `...` is any text.
fn line_matches(expected: &str, line: &str) -> bool {
    match expected.split_once("...") {
        None => expected == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            let ends = rest.char_indices().map(|(index, _)| index);
            ends.chain([rest.len()])
                .any(|index| line_matches(after, &rest[index..]))
        }),
    }
}

/// Whether the lines are as expected, where the line `...` is any lines.
fn matches(expected: &[String], lines: &[&str]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "..." => {
            (0..=lines.len()).any(|skipped| matches(rest, &lines[skipped..]))
        }
        Some((first, rest)) => lines
            .split_first()
            .is_some_and(|(line, lines)| line_matches(first, line) && matches(rest, lines)),
    }
}

#[test]
fn dots_match_any_text_and_any_lines() {
    let matches = |expected: &str, text: &str| {
        let expected: Vec<_> = expected.lines().map(str::to_owned).collect();
        matches(&expected, &text.lines().collect::<Vec<_>>())
    };
    assert!(matches("a ... c", "a b c") && matches("...", "") && matches("...\nb", "a\na\nb"));
    assert!(!matches("a ... c", "a b") && !matches("...\nb", "a") && !matches("a", "a\nb"));
}

/// The options of a subcommand, in the completions, which are made from the command line's
/// definition.
fn options_in_completions(subcommand: &str) -> BTreeSet<String> {
    let script = stdout(&mut exitring(["completions", "fish"]));
    let prefix =
        format!("complete -c exitring -n \"__fish_exitring_using_subcommand {subcommand}\"");
    let lines = script.lines().filter(|line| line.starts_with(&prefix));
    let options: BTreeSet<_> = lines
        .filter_map(|line| {
            let (_, name) = line.split_once(" -l ")?;
            let name = name.split(' ').next()?;
            Some(format!("--{name}"))
        })
        .collect();
    options
        .into_iter()
        .filter(|option| !LEFT_OUT.contains(&option.as_str()))
        .collect()
}

/// The options at the beginnings of lines.
fn options_in_text(text: &str) -> BTreeSet<String> {
    let options = text.lines().filter_map(|line| {
        let line = line.trim_start();
        let long = match line.strip_prefix('-') {
            Some(rest) if rest.starts_with('-') => line,
            Some(rest) => rest.split_once(", ")?.1,
            None => return None,
        };
        let end = long.find(['[', ' ', '=']).unwrap_or(long.len());
        Some(long[..end].to_owned())
    });
    options
        .filter(|option| option.starts_with("--") && !LEFT_OUT.contains(&option.as_str()))
        .collect()
}

fn page(subcommand: &str) -> String {
    stdout(&mut exitring(["man", subcommand]))
}

#[test]
fn help_and_the_man_page_have_all_options() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(code(exitring(["man"]).arg(dir.path())), Some(0));
    for subcommand in SUBCOMMANDS {
        let all = options_in_completions(subcommand);
        let help = stdout(exitring([subcommand, "--help"]).env("COLUMNS", "200"));
        assert_eq!(options_in_text(&help), all, "{subcommand} --help");
        let text = page(subcommand);
        let missing: Vec<_> = all
            .iter()
            .filter(|option| !options_in_text(&text).contains(*option))
            .collect();
        assert!(missing.is_empty(), "exitring man {subcommand}: {missing:?}");
        let roff = fs::read_to_string(dir.path().join(format!("exitring-{subcommand}.1"))).unwrap();
        for option in &all {
            let bold = format!("\\fB{}\\fR", option.replace('-', "\\-"));
            assert!(roff.contains(&bold), "exitring-{subcommand}(1): {option}");
        }
    }
}

/// Whether a command of an example has the option, by its long or its short name.
fn uses(command: &str, option: &str, short: Option<char>) -> bool {
    command.split_whitespace().any(|word| {
        let long = word.split('=').next().unwrap_or(word);
        let short_group = word.strip_prefix('-').filter(|word| !word.starts_with('-'));
        long == option || short_group.is_some_and(|group| short.is_some_and(|c| group.contains(c)))
    })
}

#[test]
fn each_option_has_an_example() {
    for subcommand in SUBCOMMANDS {
        let text = page(subcommand);
        let sessions = sessions(&text);
        let steps: Vec<_> = sessions.iter().flatten().collect();
        assert!(!steps.is_empty(), "{subcommand} has no example");
        let mut missing = Vec::new();
        for option in options_in_completions(subcommand) {
            let short = text.lines().find_map(|line| {
                let line = line.trim_start();
                let (short, long) = line.strip_prefix('-')?.split_once(", ")?;
                let long = long.split([' ', '[']).next()?;
                (long == option).then(|| short.chars().next())?
            });
            let call = format!("exitring {subcommand} ");
            let shown = steps.iter().any(|step| {
                let (_, words) = step.command.split_once(&call).unwrap_or_default();
                // What follows the template's separator are words of the job.
                uses(words.split(" -- ").next().unwrap_or(words), &option, short)
            });
            if !shown {
                missing.push(option);
            }
        }
        assert!(
            missing.is_empty(),
            "no example in pages of {subcommand}: {missing:?}"
        );
    }
}

/// Runs a command of an example in its directory. Returns what it printed, and its exit status.
fn run(command: &str, dir: &Path, in_terminal: bool) -> (String, Option<i32>) {
    let bin = Path::new(EXITRING).parent().expect("a directory");
    let path = env::join_paths(
        [bin.to_path_buf()]
            .into_iter()
            .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    );
    let mut shell = shell(
        "exec 2>&1 </dev/null; case $TERMINAL in 1) exec script -qec \"$1\" /dev/null;; esac; exec sh -c \"$1\"",
    );
    let output = shell
        .args(["sh", command])
        .current_dir(dir)
        .env("PATH", path.expect("no colon in the path"))
        .env("TERMINAL", if in_terminal { "1" } else { "0" })
        .env("TERM", "xterm")
        .env_remove("NATS_USER")
        .env_remove("NATS_CREDS")
        .env_remove("NATS_CA")
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    (text, output.status.code())
}

/// Why a session cannot run on this machine.
fn lacks(session: &[Step]) -> Option<String> {
    let words = |step: &Step| -> Vec<String> {
        step.command.split_whitespace().map(str::to_owned).collect()
    };
    let words: Vec<_> = session.iter().flat_map(words).collect();
    let is_there = |name: &str| {
        let output = Command::new("sh")
            .args(["-c", &format!("command -v {name}")])
            .stdout(Stdio::null())
            .status();
        let is_there = output.is_ok_and(|status| status.success());
        assert!(is_there || env::var_os("CI").is_none(), "CI needs {name}");
        is_there
    };
    if words.iter().any(|word| word == "jq") && !is_there("jq") {
        return Some("jq is not installed".into());
    }
    for (option, need) in NEEDS {
        let Some(index) = words.iter().position(|word| word == option) else {
            continue;
        };
        let lacking = match need {
            Need::Terminal => (!is_there("script")).then(|| "script is not installed".to_owned()),
            Need::Make => (!is_there("make")).then(|| "make is not installed".to_owned()),
            Need::Pressure => (!Path::new("/proc/pressure/memory").exists())
                .then(|| "the kernel does not report pressure".to_owned()),
            Need::Cgroups => {
                let mut probe = vec!["run", "-q", option];
                if ["--memory", "--pids", "--cpus"].contains(option) {
                    probe.push(&words[index + 1]);
                }
                probe.extend(["--", "true", ":::", "x"]);
                let output = exitring(probe).output().expect("runs");
                (output.status.code() == Some(3)).then(|| {
                    let text = String::from_utf8_lossy(&output.stderr);
                    text.lines().next().unwrap_or_default().to_owned()
                })
            }
        };
        if let Some(lacking) = lacking {
            return Some(format!("{option}: {lacking}"));
        }
    }
    None
}

/// The service of the examples of `watch` and `exits`.
#[cfg(feature = "serve")]
fn serve(dir: &Path) -> Started {
    let mut service = std_exitring(["serve", "--socket", "s", "--state", "state"]);
    let service = Started::new(service.current_dir(dir).stderr(Stdio::null()));
    wait_until("the socket", || dir.join("s").exists());
    service
}

/// What a session needs that runs in the background.
#[derive(Default)]
struct Servers {
    #[cfg(feature = "serve")]
    _service: Option<Started>,
    #[cfg(feature = "queue")]
    queue: Option<server::Server>,
}

impl Servers {
    /// Starts what the session needs. `None`: it cannot run here.
    fn start(subcommand: &str, session: &[Step], dir: &Path) -> Option<Self> {
        #[allow(unused_mut)]
        let mut servers = Self::default();
        #[cfg(feature = "serve")]
        if ["watch", "exits"].contains(&subcommand) {
            servers._service = Some(serve(dir));
        }
        let has = |text: &str| session.iter().any(|step| step.command.contains(text));
        #[cfg(feature = "queue")]
        if has(QUEUE_WITH_TLS) {
            servers.queue = Some(secured_server::with_tls(dir)?);
        } else if has("--creds") {
            let (server, creds) = secured_server::with_credentials()?;
            fs::write(dir.join("nightly.creds"), creds).unwrap();
            servers.queue = Some(server);
        } else if has(QUEUE) {
            servers.queue = Some(server::Server::start()?);
        }
        #[cfg(not(feature = "queue"))]
        if has(QUEUE) {
            return None;
        }
        let _ = (subcommand, dir);
        Some(servers)
    }

    /// The command, with the address of the server that runs.
    fn address(&self, command: &str) -> String {
        #[cfg(feature = "queue")]
        if let Some(queue) = &self.queue {
            let command = command.replace(QUEUE_WITH_TLS, &format!("tls://{}/", queue.host()));
            return command.replace(QUEUE, &format!("nats://{}/", queue.host()));
        }
        command.to_owned()
    }
}

fn check(subcommand: &str) {
    for session in sessions(&page(subcommand)) {
        if let Some(lacking) = lacks(&session) {
            eprintln!("not tested: {}: {lacking}", session[0].command);
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let Some(servers) = Servers::start(subcommand, &session, dir.path()) else {
            continue;
        };
        for step in session {
            let in_terminal = NEEDS.iter().any(|(option, need)| {
                matches!(need, Need::Terminal) && uses(&step.command, option, None)
            });
            let (text, status) = run(&servers.address(&step.command), dir.path(), in_terminal);
            let shown = match status {
                Some(0) => String::new(),
                Some(code) => format!("[{code}]"),
                None => "[a signal]".into(),
            };
            let lines: Vec<_> = text
                .lines()
                .chain((!shown.is_empty()).then_some(&*shown))
                .collect();
            // A final `...` does not stand for an exit status.
            let (mut expected, mut printed) = (&step.expected[..], &lines[..]);
            let is_status = |line: &str| line.starts_with('[') && line.ends_with(']');
            let wanted = expected.last().filter(|line| is_status(line));
            assert_eq!(
                wanted.map(String::as_str).unwrap_or_default(),
                shown,
                "the exit status of {}\nwhich printed: {text}",
                step.command
            );
            if wanted.is_some() {
                expected = &expected[..expected.len() - 1];
                printed = &printed[..printed.len() - 1];
            }
            assert!(
                matches(expected, printed),
                "$ {}\nexpected: {expected:#?}\nprinted: {printed:#?}",
                step.command
            );
        }
    }
}

#[test]
fn the_examples_of_run_are_right() {
    check("run");
}

#[test]
fn the_examples_of_wait_and_doctor_are_right() {
    check("wait");
    check("doctor");
}

#[cfg(feature = "serve")]
#[test]
fn the_examples_of_watch_and_exits_are_right() {
    check("watch");
    check("exits");
}

#[test]
fn the_examples_of_completions_and_man_are_right() {
    check("completions");
    check("man");
}
