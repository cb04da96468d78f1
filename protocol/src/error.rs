//! Errors that the service answers with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An error of the service: a code for programs, and a message for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The kind of the error.
    pub code: Code,
    /// The cause, and the remedy.
    pub message: String,
}

impl Error {
    /// An error with its kind and message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }
}

/// The kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The line is not JSON.
    BadJson,
    /// The line is nested too deeply.
    TooDeep,
    /// The line is too long; the connection is closed.
    LineTooLong,
    /// The line is JSON, but not a request.
    BadRequest,
    /// The first line must be `hello`.
    HelloFirst,
    /// The service has another version of the protocol.
    Version,
    /// The service does not serve this user; the connection is closed.
    OtherUser,
    /// The process, the watch or the file belongs to another user, or only root may do this.
    Denied,
    /// The limit on clients is reached; the connection is closed.
    TooManyClients,
    /// The limit on watches of the user, or of all users, is reached.
    TooManyWatches,
    /// An argument is out of range.
    OutOfRange,
    /// No process has the pid.
    NoSuchProcess,
    /// No live watch has the number: it has ended, or never existed.
    NoSuchWatch,
    /// The descriptor is missing, or is not the pidfd of a process.
    NotAPidfd,
    /// The kernel is too old for the request, or the service has no cgroup for it.
    Unsupported,
    /// The program could not be started.
    CannotStart,
    /// A resource ran out (processes, descriptors, memory). A later attempt may succeed.
    Exhausted,
    /// The state cannot be written, because the disk is full or broken. New requests are refused.
    Storage,
    /// The service ends or restarts.
    Stopping,
    /// The request failed for another reason.
    Failed,
    /// A kind that this version does not know.
    #[serde(other)]
    Other,
}

impl Code {
    /// Whether a later attempt can succeed.
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
