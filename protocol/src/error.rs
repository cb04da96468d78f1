//! Why a request was refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer to what cannot be done: a code for programs, a message for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind.
    pub code: Code,
    /// The cause, and what to do.
    pub message: String,
}

impl Error {
    /// An error of a kind, with its message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }
}

/// The kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The line is no JSON.
    BadJson,
    /// It is nested too deeply.
    TooDeep,
    /// The line is too long; the connection is closed.
    LineTooLong,
    /// It is JSON, and no request.
    BadRequest,
    /// The first line has to be `hello`.
    HelloFirst,
    /// The service speaks another version.
    Version,
    /// The service does not serve this user; the connection is closed.
    OtherUser,
    /// The process, the watch, or the file is another user's.
    Denied,
    /// As many clients are connected as may be; the connection is closed.
    TooManyClients,
    /// The user has as many watches as it may, or all users together have.
    TooManyWatches,
    /// An argument is outside of what it may be.
    OutOfRange,
    /// No process has this pid.
    NoSuchProcess,
    /// There is no such live watch (it ended, or never was).
    NoSuchWatch,
    /// The descriptor is missing, or no pidfd of a process.
    NotAPidfd,
    /// The kernel is too old for it.
    Unsupported,
    /// The program could not be started.
    CannotStart,
    /// Something ran out (processes, descriptors, memory); later it may work.
    Exhausted,
    /// The state cannot be written (the disk is full, or broken): nothing new is taken.
    Storage,
    /// The service is about to end or to be restarted.
    Stopping,
    /// It failed for another reason.
    Failed,
    /// A kind that this version has no name for.
    #[serde(other)]
    Other,
}

impl Code {
    /// Whether trying again later can help.
    pub fn is_throttling(self) -> bool {
        matches!(
            self,
            Self::TooManyClients
                | Self::TooManyWatches
                | Self::Exhausted
                | Self::Storage
                | Self::Stopping
        )
    }
}
