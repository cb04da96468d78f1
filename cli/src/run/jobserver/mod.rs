//! The jobserver of GNU make: one number of jobs for all programs of a build.
//!
//! A jobserver is a pipe or a FIFO with a byte, a token, for each job beyond the first. A program
//! runs one job by the implicit token that its parent had for it. For each further job it takes a
//! token out of the pipe, and puts it back when the job has ended. (GNU make manual, "POSIX
//! Jobserver Interaction".)
//!
//! - `auth`: where the jobserver is, as the environment says it.
//! - `connection`: the open ends of the pipe.
//! - [`tokens`]: the tokens of running jobs. Admission owns them.
//! - [`role`]: whether this run takes tokens from a jobserver, provides one, or has none.
//!
//! The crate `jobserver` is not used: it offers no descriptor for an epoll, its helper thread
//! replaces the handler of SIGUSR1, and it creates no FIFO.

mod auth;
mod connection;
pub(crate) mod role;
pub(crate) mod tokens;
