//! `--help`, the man pages and the completions.

mod common;

use std::fs;
use std::process::Command;

use common::{code, exitring, stdout};

const SUBCOMMANDS: &[&str] = &[
    "run",
    "wait",
    "doctor",
    #[cfg(feature = "serve")]
    "serve",
    #[cfg(feature = "queue")]
    "submit",
    #[cfg(feature = "queue")]
    "results",
    #[cfg(feature = "queue")]
    "queue",
    "watch",
    "exits",
    "completions",
    "man",
];

fn help(words: &[&str], columns: usize) -> String {
    stdout(exitring(words.iter().copied()).env("COLUMNS", columns.to_string()))
}

/// The column at which the description in a line of options begins; `None` for other lines.
fn description_column(line: &str) -> Option<usize> {
    let option = line.trim_start();
    let indent = line.len() - option.len();
    if !(2..=6).contains(&indent) || !option.starts_with(['-', '[', '<']) {
        return None;
    }
    let gap = option.find("  ")?;
    let description = option[gap..].trim_start();
    (!description.is_empty()).then(|| line.len() - description.len())
}

/// A line that is shorter than half its width, though the next word of the paragraph would fit.
///
/// Text that is wrapped by hand and then again to the width of the terminal has such lines.
fn ragged(text: &str, columns: usize) -> Option<(String, String)> {
    let lines: Vec<_> = text.lines().collect();
    let mut examples = false;
    for pair in lines.windows(2) {
        let (line, next) = (pair[0], pair[1]);
        // Subcommands have a line each.
        let begins = line.starts_with("Example") || line == "Commands:";
        examples = !line.is_empty() && (examples || begins);
        let indent = |line: &str| line.len() - line.trim_start().len();
        let text_begins = description_column(line).unwrap_or(indent(line));
        let continues = !line.trim().is_empty()
            && !next.trim().is_empty()
            && description_column(next).is_none()
            && !next.trim_start().starts_with('-')
            && indent(next) == text_begins;
        let word = next.split_whitespace().next().unwrap_or_default();
        let short = line.len() - text_begins < (columns - text_begins) / 2;
        if continues && !examples && short && line.len() + 1 + word.len() <= columns {
            return Some((line.into(), next.into()));
        }
    }
    None
}

#[test]
fn the_check_finds_text_that_is_wrapped_twice() {
    let once =
        "The first line fills the width of the terminal, as do the\nothers, but for the last.\n";
    assert_eq!(ragged(once, 60), None);
    let twice = "The first line was longer than the terminal and lost its last\nwords here\nbefore the next.\n";
    assert!(ragged(twice, 60).is_some());
}

#[test]
fn help_flows_to_the_width_of_the_terminal() {
    for subcommand in SUBCOMMANDS {
        for columns in [60, 80, 100, 140] {
            for flag in ["-h", "--help"] {
                let text = help(&[subcommand, flag], columns);
                // clap does not wrap the synopsis.
                let lines = text.lines().filter(|line| !line.starts_with("Usage: "));
                let longest = lines.map(|line| line.chars().count()).max();
                assert!(
                    longest.is_some_and(|longest| longest <= columns),
                    "{subcommand} {flag} at {columns}: {text}"
                );
                assert_eq!(
                    ragged(&text, columns),
                    None,
                    "{subcommand} {flag} at {columns}"
                );
            }
        }
    }
}

#[test]
fn short_help_fits_a_screen_with_one_line_for_each_option() {
    for subcommand in SUBCOMMANDS {
        let text = help(&[subcommand, "-h"], 80);
        assert!(text.lines().count() <= 50, "{text}");
        let mut in_options = false;
        for line in text.lines() {
            // Headings of options; the examples follow them.
            if !line.starts_with(' ') {
                in_options =
                    line.ends_with(':') && !line.starts_with("Example") && line != "Commands:";
            }
            let in_option = in_options && line.starts_with("  ");
            assert!(!in_option || description_column(line).is_some(), "{line}");
        }
    }
}

#[test]
fn long_help_points_to_the_man_page() {
    let text = help(&["run", "--help"], 80);
    for words in [
        "Examples:",
        "Exit status:",
        "Job log:",
        "--joblog",
        ":::",
        "live on",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    for subcommand in SUBCOMMANDS {
        let text = help(&[subcommand, "--help"], 80);
        let last = text.trim_end().rsplit("\n\n").next().unwrap_or_default();
        let last = last.split_whitespace().collect::<Vec<_>>().join(" ");
        let pointer = format!("man exitring-{subcommand}, or exitring man {subcommand}.");
        assert!(last.contains(&pointer), "{pointer} {text}");
    }
}

#[test]
fn long_help_has_two_lines_for_an_option_at_most() {
    for (columns, most) in [(100, 150), (80, 165)] {
        for subcommand in SUBCOMMANDS {
            let text = help(&[subcommand, "--help"], columns);
            let lines = text.lines().count();
            assert!(lines <= most, "{subcommand} at {columns}: {lines} lines");
            // The lines of a description after the first.
            let mut more = 0;
            for line in text.lines() {
                let blank = line.len() - line.trim_start().len();
                more = if blank > 8 { more + 1 } else { 0 };
                assert!(more <= 1 || columns < 100, "{subcommand}: {line}");
            }
        }
    }
}

#[test]
fn help_of_a_subcommand_is_the_same_by_either_name() {
    assert_eq!(help(&["help", "run"], 80), help(&["run", "--help"], 80));
    assert_ne!(help(&["run", "-h"], 80), help(&["run", "--help"], 80));
}

#[test]
fn the_man_pages_hold_the_reference() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(code(exitring(["man"]).arg(dir.path())), Some(0));
    let page = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    for subcommand in SUBCOMMANDS {
        let page = page(&format!("exitring-{subcommand}.1"));
        assert!(page.contains(".SH EXAMPLES"), "{page}");
        assert!(page.contains("\\fBexitring\\fR(1)"), "{page}");
    }
    let run = page("exitring-run.1");
    for words in [
        "\n.SS \"JOB LOG\"\n",
        "\n.SH \"EXIT STATUS\"\n",
        "\n.SH SIGNALS\n",
        "lives on, as with xargs",
        "1 MiB",
        "Ctrl\\-\\\\ (SIGQUIT)",
        "EXITRING_SHARD",
    ] {
        assert!(run.contains(words), "{words}: {run}");
    }
    assert!(page("exitring.1").contains(".SH SUBCOMMANDS"));
}

#[test]
fn groff_formats_the_man_pages_without_warnings() {
    if Command::new("groff").arg("--version").output().is_err() {
        eprintln!("not run: there is no groff (apt-get install groff)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(code(exitring(["man"]).arg(dir.path())), Some(0));
    for page in fs::read_dir(dir.path()).unwrap() {
        let page = page.unwrap().path();
        let mut groff = Command::new("groff");
        let output = groff.args(["-man", "-Tutf8", "-ww"]).arg(&page).output();
        let output = output.unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
    }
}

#[test]
fn completions_know_the_options() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&mut exitring(["completions", shell]));
        assert!(script.contains("joblog"), "{shell}");
    }
}
