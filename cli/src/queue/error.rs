//! What can go wrong with a queue: the cause, and the remedy.

use std::io;
use std::path::PathBuf;

use super::model::text::one_line;
use crate::code;
use crate::failure::Failure;

/// An error of a queue. No variant contains a password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    #[error("the address of the queue is invalid: {0}")]
    Address(String),
    #[error("the variable {0} is not UTF-8")]
    Variable(&'static str),
    #[error("cannot read the credentials {}: {error}", path.display())]
    Credentials { path: PathBuf, error: io::Error },
    #[error("cannot read the certificates {}: {error}", path.display())]
    Certificates { path: PathBuf, error: io::Error },
    #[error("cannot connect to {server}: {reason}")]
    Connect { server: String, reason: String },
    #[error("{server} refuses the login")]
    Login { server: String },
    #[error("{server} has no JetStream, which a queue needs: {reason}")]
    NoJetStream { server: String, reason: String },
    #[error("the server denies permission: {0}")]
    Denied(String),
    #[error("cannot {what}: the server does not answer")]
    NoAnswer { what: &'static str },
    #[error("cannot {what}: {reason}")]
    NoLeader { what: &'static str, reason: String },
    #[error("cannot {what}: {reason}")]
    Refused { what: &'static str, reason: String },
    #[error("there is no run {run} on {server}")]
    NoRun { run: String, server: String },
    #[error("the run {run} was deleted, and submitted again")]
    OtherRun { run: String },
    #[error("the run {run} has another list ({jobs} jobs, hash {list})")]
    OtherList {
        run: String,
        jobs: u64,
        list: String,
    },
    #[error("the run {run} has the same list, but other options: {options}")]
    OtherOptions { run: String, options: String },
    #[error("the run {run} was submitted by a newer version of exitring (format {version})")]
    NewerFormat { run: String, version: u32 },
    #[error("a message of the run {run} is invalid: {reason}")]
    InvalidMessage { run: String, reason: String },
    #[error(
        "jobs of the run {run} are acknowledged, and have no result: the server has lost records"
    )]
    LostResults { run: String },
    #[error("the run {run} has no consumer")]
    NoConsumer { run: String },
    #[error("the run {run} was cancelled")]
    Cancelled { run: String },
    #[error("the server has no room for the jobs ({reason}); {stored} of {jobs} are stored")]
    Full {
        reason: String,
        stored: u64,
        jobs: u64,
    },
    #[error("job {job} has {size} bytes, and the server accepts {limit} in a message")]
    TooLarge { job: u64, size: usize, limit: usize },
    #[error("job {job} of the list is invalid: {why}")]
    InvalidJob { job: u64, why: String },
    #[error("the log of job {job} cannot be stored: {reason}; its record says so")]
    LogNotStored { job: u64, reason: String },
    #[error("the log {name} cannot be read: {reason}")]
    NoLog { name: String, reason: String },
    #[error("the list has no jobs")]
    NoJobs,
    #[error("cannot {what}: {error}")]
    System {
        what: &'static str,
        error: io::Error,
    },
}

impl QueueError {
    /// Whether the server is away: the same request may succeed later.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::NoAnswer { .. } | Self::NoLeader { .. })
    }

    /// The same for a server that had JetStream before: it may be away or just start.
    pub(crate) fn is_passing(&self) -> bool {
        self.is_away() || matches!(self, Self::NoJetStream { .. })
    }

    /// Whether the run does not exist any more.
    pub(crate) fn is_deleted(&self) -> bool {
        matches!(self, Self::NoRun { .. } | Self::OtherRun { .. })
    }

    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Address(_) => "write nats://HOST/RUN or tls://HOST:PORT/RUN",
            Self::Variable(_) => "set it to text in UTF-8, or give --creds FILE",
            Self::Credentials { .. } => "give --creds a file that `nsc generate creds` wrote",
            Self::Certificates { .. } => "give --ca a file of certificates in PEM format",
            Self::Connect { .. } => {
                "check the host and the port, and that nats-server runs there; tls:// and --ca are for servers with TLS"
            }
            Self::Login { .. } => {
                "give --creds FILE, or a user and a password in the address or in NATS_USER and NATS_PASSWORD"
            }
            Self::NoJetStream { .. } => {
                "start the server with jetstream (nats-server -js), or enable it for this account"
            }
            Self::Denied(_) => {
                "the user needs publish on exitring.RUN.>, $JS.API.> and $JS.ACK.>, and with --log nats on $O.exitring-RUN.>, and subscribe on exitring.RUN.> and _INBOX.>; docs/CLUSTER.md has the least permissions"
            }
            Self::NoAnswer { .. } => {
                "check the server; the command can be given again, and continues where it was"
            }
            Self::NoLeader { .. } => {
                "start the other servers of the cluster; the command can be given again, and continues where it was"
            }
            Self::Refused { .. } => "see the log of the server",
            Self::NoRun { .. } => "submit it first (exitring submit), or check the name of the run",
            Self::OtherRun { .. } => {
                "start the command again for the new run; if it is `submit`, delete the run before: exitring queue delete"
            }
            Self::OtherList { .. } | Self::OtherOptions { .. } => {
                "give the run another name, or delete the earlier one: exitring queue delete"
            }
            Self::NewerFormat { .. } => "install the version of exitring that submitted it",
            Self::InvalidMessage { .. } => {
                "another program has written to its subjects; delete the run and submit it again"
            }
            Self::LostResults { .. } => {
                "submit the same list again, which makes these jobs available, and start workers"
            }
            Self::NoConsumer { .. } => "submit the same list again, which creates it again",
            Self::Cancelled { .. } => {
                "delete it before a run with the same name: exitring queue delete"
            }
            Self::Full { .. } => {
                "raise the limits of the stream, the account or the disk, and submit again: it continues"
            }
            Self::TooLarge { .. } => {
                "raise max_payload in the configuration of the server, or put the command into a script"
            }
            Self::LogNotStored { .. } => {
                "raise the limits of the stream OBJ_exitring-RUN, the account or the disk, or give workers --log DIR"
            }
            Self::NoLog { .. } => {
                "check the bucket exitring-RUN on the server; `exitring results` without --logs shows the end of the output"
            }
            Self::InvalidJob { .. } => "correct the list; nothing was submitted",
            Self::NoJobs => "check the list; nothing was submitted",
            Self::System { .. } => "`exitring doctor` shows what this machine allows",
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Connect { .. }
            | Self::NoAnswer { .. }
            | Self::NoLeader { .. }
            | Self::Refused { .. }
            | Self::Full { .. }
            | Self::LostResults { .. }
            | Self::NoLog { .. }
            | Self::System { .. } => code::RESOURCE,
            _ => code::USAGE,
        }
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        Self::new(error.code(), one_line(&error.to_string())).remedy(error.remedy())
    }
}
