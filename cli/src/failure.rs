//! Failures that end the command: the cause, the remedy, and the exit code.

use std::error::Error;
use std::fmt::Write as _;
use std::io;

use anstyle::AnsiColor;

use crate::code;
use crate::diagnostics::say;

/// A failure that ends the command.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub(crate) struct Failure {
    code: u8,
    cause: String,
    remedy: Option<String>,
}

impl Failure {
    /// The command line, or a file that it names, is wrong.
    pub(crate) fn usage(cause: impl Into<String>) -> Self {
        Self::new(code::USAGE, cause)
    }

    /// A resource ran out or is denied.
    pub(crate) fn resource(cause: impl Into<String>) -> Self {
        Self::new(code::RESOURCE, cause)
    }

    pub(crate) fn new(code: u8, cause: impl Into<String>) -> Self {
        Self {
            code,
            cause: cause.into(),
            remedy: None,
        }
    }

    /// Adds what the user can do.
    pub(crate) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }

    /// A write failed.
    pub(crate) fn writing(what: &str, error: &io::Error) -> Self {
        let failure = Self::resource(format!("cannot write {what}: {error}"));
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                failure.remedy("free space on the disk, or write elsewhere")
            }
            io::ErrorKind::FileTooLarge => failure.remedy("raise RLIMIT_FSIZE (ulimit -f)"),
            io::ErrorKind::PermissionDenied => failure.remedy("check the mode of its directory"),
            _ => failure,
        }
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// Writes the failure to standard error, in colour if that is a terminal. Returns the exit
    /// code.
    pub(crate) fn report(&self) -> u8 {
        say(&self.to_lines());
        self.code
    }

    pub(crate) fn to_lines(&self) -> String {
        let red = AnsiColor::Red.on_default().bold();
        let green = AnsiColor::Green.on_default();
        let mut lines = format!("{red}error:{red:#} {}\n", self.cause);
        if let Some(remedy) = &self.remedy {
            let _ = writeln!(lines, "{green}remedy:{green:#} {remedy}");
        }
        lines
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::usage(format!("{error:#}"))
    }
}

/// An error and its sources, on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // Some errors contain the message of their source.
        if !text.contains(&cause) {
            let _ = write!(text, ": {cause}");
        }
        source = error.source();
    }
    text
}
