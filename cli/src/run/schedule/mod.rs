//! The start of jobs.
//!
//! The reader submits jobs to [`admission`], and the threads of [`spawner`] take them from there.
//! [`shell`] decides how a line is executed, and `environment` which variables a job has. `slots`
//! numbers the running jobs. [`event_queue`] carries the result to the supervisor.

pub(crate) mod admission;
pub(crate) mod environment;
pub(crate) mod event_queue;
pub(crate) mod shell;
mod slots;
pub(crate) mod spawner;
