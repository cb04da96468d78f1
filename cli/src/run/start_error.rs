//! The error of a job that could not be started.

/// Why a job could not be started, and the exit code that a shell uses for it.
#[derive(Debug)]
pub(crate) struct StartError {
    pub(crate) reason: String,
    pub(crate) exit_code: i32,
}

impl StartError {
    /// The program does not exist.
    pub(crate) fn not_found(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            exit_code: 127,
        }
    }

    /// What the job is to read cannot be opened. Shells exit with this code then.
    pub(crate) fn no_stdin(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            exit_code: 1,
        }
    }

    /// The program exists but cannot be executed, or the line cannot be a command.
    pub(crate) fn not_executable(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            exit_code: 126,
        }
    }
}
