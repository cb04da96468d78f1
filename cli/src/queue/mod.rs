//! A queue on a NATS server: one list of jobs for many machines (feature `queue`).
//!
//! ```text
//! submit ──► stream of jobs ──pull──► worker (a source of jobs of `run`) ──► stream of records ──► results
//! ```
//!
//! `exitring submit` publishes the list, and each `exitring run --queue` is a worker. The worker is
//! one more source of jobs for `run`, and one more place where its records go. It is no second
//! runner.
//!
//! The modules, from the bottom up. A module imports only modules above it in this list.
//!
//! - [`error`], [`address`], [`options`]: what the command line says, and what can go wrong.
//! - [`model`]: the messages.
//! - [`access`]: how to log in. [`clock`]: the clock of leases.
//! - [`connection`]: the client of the server, and its requests.
//! - [`streams`]: the streams of a run, and the consumer of its jobs.
//! - [`spool`], [`mod@submit`]: `exitring submit`.
//! - [`worker`]: the queue's part of `exitring run --queue`.
//! - [`download`], [`mod@results`], [`mod@status`], [`control`]: `exitring results` and `exitring queue`.

mod access;
mod address;
mod clock;
mod connection;
mod control;
mod download;
mod error;
mod model;
mod options;
mod results;
mod spool;
mod status;
mod streams;
mod submit;
pub(crate) mod worker;

use crate::failure::Failure;

pub(crate) use self::options::{QueueOptions, ResultsOptions, SubmitOptions, WorkerOptions};
pub(crate) use self::results::results;
pub(crate) use self::submit::submit;

/// `exitring queue`: shows, cancels or deletes a run. Returns the exit code.
pub(crate) fn queue(options: &QueueOptions) -> Result<u8, Failure> {
    use self::options::QueueCommand;
    match &options.command {
        QueueCommand::Status(options) => status::status(options),
        QueueCommand::Cancel(server) => control::cancel(server),
        QueueCommand::Delete(server) => control::delete(server),
    }
}
