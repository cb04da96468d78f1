//! The program that children execute: a tiny static one that is written at run time, the user's
//! own, or one of the machine's.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::interrupt::interrupted;
use super::tiny_elf;

/// The number of bytes that a child writes in `capture`: as many as a pipe accepts in one piece
/// (`PIPE_BUF` in `pipe(7)`).
pub(crate) const OUTPUT_BYTES: usize = 4096;

/// How long a forked child of another thread may have a new program open for writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a program may run.
const RUN_TIMEOUT: Duration = Duration::from_secs(10);

/// Exit codes of the tiny program: the letters, because the program exits with the first byte of
/// its argument.
const CODES: std::ops::RangeInclusive<u8> = b'a'..=b'z';

pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<String>,
    /// Whether it stands in for the tiny program, on an architecture that has none.
    stands_in: bool,
    /// Whether it exits with the first byte of one more argument. Otherwise it exits with 0.
    takes_code: bool,
    /// What it writes to standard output.
    output: Vec<u8>,
    /// Its name for people.
    name: String,
    /// Removed when this is dropped.
    _directory: Option<TempDir>,
}

impl Program {
    /// A program that only exits, or the program at `path`.
    pub(crate) fn that_exits(path: Option<&Path>) -> Result<Arc<Self>> {
        if let Some(path) = path {
            return Self::installed(path, &[], Vec::new())?.checked();
        }
        match tiny_elf::that_exits() {
            Some(elf) => Self::written(&elf, Vec::new()),
            None => Self::installed(Path::new("true"), &[], Vec::new())?.standing_in(),
        }
    }

    /// A program that writes [`OUTPUT_BYTES`] to standard output, and exits.
    pub(crate) fn that_writes() -> Result<Arc<Self>> {
        match tiny_elf::that_writes_itself(OUTPUT_BYTES) {
            Some(elf) => Self::written(&elf, elf.clone()),
            None => Self::installed(
                Path::new("head"),
                &["-c", &OUTPUT_BYTES.to_string(), "/dev/zero"],
                vec![0; OUTPUT_BYTES],
            )?
            .standing_in(),
        }
    }

    /// Writes the tiny program to a temporary directory.
    ///
    /// If another thread forks meanwhile, its child has the file open for writing, and nobody can
    /// execute such a file for as long as it has.
    fn written(elf: &[u8], output: Vec<u8>) -> Result<Arc<Self>> {
        let directory = TempDir::with_prefix("loadgen-program-")
            .context("creating a directory for the program of the children")?;
        let path = directory.path().join("program");
        let write = || {
            let mut file = OpenOptions::new();
            let mut file = file.write(true).create_new(true).mode(0o700).open(&path)?;
            file.write_all(elf)
        };
        write().with_context(|| format!("writing {}", path.display()))?;
        let program = Self {
            path,
            arguments: Vec::new(),
            stands_in: false,
            takes_code: true,
            output,
            name: format!("static program of {} bytes", elf.len()),
            _directory: Some(directory),
        };
        program.checked().context(
            "the program of the children does not run; set TMPDIR to a directory from which programs \
             can be executed",
        )
    }

    /// A program of the machine: a path, or a name to look up in PATH.
    fn installed(path: &Path, arguments: &[&str], output: Vec<u8>) -> Result<Self> {
        let directories = std::env::var_os("PATH").filter(|_| path.components().count() == 1);
        let path = directories
            .iter()
            .flat_map(std::env::split_paths)
            .map(|directory| directory.join(path))
            .find(|path| path.is_file())
            .unwrap_or_else(|| path.to_owned());
        // Contestants in other languages are not to look it up again.
        let path =
            std::path::absolute(&path).with_context(|| format!("finding {}", path.display()))?;
        Ok(Self {
            name: path.display().to_string(),
            path,
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            stands_in: false,
            takes_code: false,
            output,
            _directory: None,
        })
    }

    fn standing_in(mut self) -> Result<Arc<Self>> {
        self.stands_in = true;
        self.checked()
    }

    /// Runs the program once. This also brings it into the page cache.
    fn checked(self) -> Result<Arc<Self>> {
        let run = self.run_once(RUN_TIMEOUT);
        let (status, output) = run.with_context(|| format!("executing {}", self.path.display()))?;
        let expected = i32::from(self.code(0));
        ensure!(
            status.code() == Some(expected),
            "{} ended with {status} instead of exit code {expected}",
            self.path.display(),
        );
        ensure!(
            output == self.output,
            "{} wrote {} bytes that are not the expected {}",
            self.path.display(),
            output.len(),
            self.output.len()
        );
        Ok(Arc::new(self))
    }

    /// Runs the program, and kills it at the limit. Returns its output if it is to be checked.
    fn run_once(&self, limit: Duration) -> Result<(ExitStatus, Vec<u8>)> {
        let start = Instant::now();
        let mut command = self.command(0);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command.stdout(match self.output.is_empty() {
            true => Stdio::null(),
            false => Stdio::piped(),
        });
        let mut child = loop {
            match command.spawn() {
                Err(error)
                    if error.kind() == ErrorKind::ExecutableFileBusy
                        && start.elapsed() < BUSY_TIMEOUT =>
                {
                    std::thread::sleep(Duration::from_millis(10));
                }
                child => break child?,
            }
        };
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if start.elapsed() >= limit || interrupted() {
                let _ = child.kill();
                child.wait()?;
                ensure!(!interrupted(), "interrupted");
                bail!(
                    "it did not end within {limit:?}, and was killed; choose a program that only exits"
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let mut output = Vec::new();
        if let Some(pipe) = child.stdout {
            // The expected output fits into the pipe.
            pipe.take(OUTPUT_BYTES as u64 + 1)
                .read_to_end(&mut output)?;
        }
        Ok((status, output))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it stands in for the tiny program, which has no start of libc.
    pub(crate) fn stands_in(&self) -> bool {
        self.stands_in
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn output(&self) -> &[u8] {
        &self.output
    }

    /// The exit code of the child in a slot.
    pub(crate) fn code(&self, index: usize) -> u8 {
        match self.takes_code {
            true => CODES.start() + (index % CODES.len()) as u8,
            false => 0,
        }
    }

    /// The arguments of the child in a slot.
    pub(crate) fn arguments(&self, index: usize) -> impl Iterator<Item = String> {
        let code = self.takes_code.then(|| char::from(self.code(index)).into());
        self.arguments.iter().cloned().chain(code)
    }

    /// The same command as [`command`](Self::command), as one of exitring.
    pub(crate) fn exitring_command(&self, index: usize) -> exitring::Command {
        let mut command = exitring::Command::new(&self.path);
        command.args(self.arguments(index));
        command
    }

    /// The command that starts the child of a slot. It inherits all standard streams.
    pub(crate) fn command(&self, index: usize) -> Command {
        let mut command = Command::new(&self.path);
        command.args(self.arguments(index));
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiny_program_exits_with_the_code_of_its_slot() {
        let program = Program::that_exits(None).expect("it runs");
        for index in [0, 1, 25, 26, 1000] {
            let output = program.command(index).output().expect("it starts");
            assert_eq!(output.status.code(), Some(program.code(index).into()));
            assert!(output.stdout.is_empty());
        }
        let path = program.path().to_owned();
        drop(program);
        assert!(!path.exists(), "it is removed");
    }

    #[test]
    fn the_writing_program_writes_4_kib() {
        let program = Program::that_writes().expect("it runs");
        let output = program.command(7).output().expect("it starts");
        assert_eq!(output.stdout.len(), OUTPUT_BYTES);
        assert_eq!(output.stdout, program.output());
        assert_eq!(output.status.code(), Some(program.code(7).into()));
    }

    #[test]
    fn a_program_of_the_user_must_exit_with_0() {
        let program = Program::that_exits(Some(Path::new("true"))).expect("it runs");
        assert_eq!((program.code(5), program.stands_in()), (0, false));
        let error = Program::that_exits(Some(Path::new("false")));
        let error = error.err().expect("it exits with 1").to_string();
        assert!(error.contains("instead of exit code 0"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let sleep = Program::installed(Path::new("sleep"), &["1000"], Vec::new()).expect("a path");
        let error = sleep.run_once(Duration::from_millis(1));
        let error = error.expect_err("it is killed").to_string();
        assert!(error.contains("did not end within 1ms"), "{error}");
    }
}
