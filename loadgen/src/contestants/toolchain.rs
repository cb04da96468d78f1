//! The programs of the contestants in other languages: interpreted, or compiled at run time.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::types::kind::Kind;

const ASYNCIO: &str = include_str!("../../external/asyncio_contestant.py");
const NODE: &str = include_str!("../../external/node_contestant.js");
const GO: &str = include_str!("../../external/go_contestant.go");
const LIBUV: &str = include_str!("../../external/libuv_contestant.c");
const SD_EVENT: &str = include_str!("../../external/sd_event_contestant.c");
const HEADER: &str = include_str!("../../external/contestant.h");

/// How a contestant in another language is made.
enum Recipe {
    /// The interpreter, and its arguments with the text of the program.
    Interpreted(&'static str, [&'static str; 2]),
    /// A C compiler with a library, and the package that has the library's headers on Debian.
    C {
        source: &'static str,
        library: &'static str,
        package: &'static str,
    },
    Go(&'static str),
}

fn recipe(kind: Kind) -> Option<Recipe> {
    Some(match kind {
        Kind::PythonAsyncio => Recipe::Interpreted("python3", ["-c", ASYNCIO]),
        Kind::Node => Recipe::Interpreted("node", ["-e", NODE]),
        Kind::Go => Recipe::Go(GO),
        Kind::Libuv => Recipe::C {
            source: LIBUV,
            library: "-luv",
            package: "libuv1-dev",
        },
        Kind::SdEvent => Recipe::C {
            source: SD_EVENT,
            library: "-lsystemd",
            package: "libsystemd-dev",
        },
        _ => return None,
    })
}

/// A program that is ready to run.
pub(super) struct Built {
    pub(super) command: Command,
    /// Holds the compiled program; removed when this is dropped.
    pub(super) directory: Option<TempDir>,
}

/// The reason why the contestant cannot run here, if there is one.
pub(super) fn missing(kind: Kind) -> Option<String> {
    recipe(kind)?;
    build(kind).err().map(|error| format!("{error:#}"))
}

/// Makes the program of a contestant in another language.
pub(super) fn build(kind: Kind) -> Result<Built> {
    match recipe(kind).context("the contestant is not another program")? {
        Recipe::Interpreted(interpreter, arguments) => {
            ensure_installed(interpreter, "--version")?;
            let mut command = Command::new(interpreter);
            command.args(arguments);
            Ok(Built {
                command,
                directory: None,
            })
        }
        Recipe::C {
            source,
            library,
            package,
        } => {
            ensure_installed("cc", "--version")?;
            let sources = [("contestant.c", source), ("contestant.h", HEADER)];
            let compile = ["cc", "-O2", "-o", "contestant", "contestant.c", library];
            compiled(&sources, &compile).with_context(|| {
                format!("its program cannot be compiled; install {package} (the name on Debian)")
            })
        }
        Recipe::Go(source) => {
            ensure_installed("go", "version")?;
            let compile = ["go", "build", "-o", "contestant", "contestant.go"];
            compiled(&[("contestant.go", source)], &compile)
                .context("its program cannot be compiled; install a newer go")
        }
    }
}

fn ensure_installed(program: &str, version: &str) -> Result<()> {
    let output = Command::new(program)
        .arg(version)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        _ => bail!("{program} is not installed; install it and add it to PATH"),
    }
}

/// Compiles sources in a temporary directory, into a program `contestant`.
fn compiled(sources: &[(&str, &str)], compile: &[&str]) -> Result<Built> {
    let directory = TempDir::with_prefix("loadgen-contestant-").context("creating a directory")?;
    for (name, text) in sources {
        fs::write(directory.path().join(name), text).with_context(|| format!("writing {name}"))?;
    }
    let output = Command::new(compile[0])
        .args(&compile[1..])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", compile[0]))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let first = errors
        .lines()
        .find(|line| line.contains("error") || line.contains("cannot"));
    ensure!(
        output.status.success(),
        "{}: {}",
        compile[0],
        first.unwrap_or(&errors).trim()
    );
    let program: PathBuf = directory.path().join("contestant");
    Ok(Built {
        command: Command::new(program),
        directory: Some(directory),
    })
}
