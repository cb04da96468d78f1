//! The start of jobs.
//!
//! The reader submits jobs to [`admission`], and the threads of [`spawner`] take them from there.
//! [`shell`] decides how a line is executed, and [`environment`] which variables a job has;
//! `job_stdin` opens what it reads. `slots`
//! numbers the running jobs. `claims` holds their weights and groups, and [`conditions`] and
//! [`pressure`] what the machine must be like for a start ([`admission_options`], `pressure_limits`).
//! [`delayed_jobs`] wait for their next attempt, as [`retry_delay`] says. [`event_queue`] carries
//! the result to the supervisor.

pub(crate) mod admission;
pub(crate) mod admission_options;
mod claims;
pub(crate) mod conditions;
pub(crate) mod delayed_jobs;
pub(crate) mod environment;
pub(crate) mod event_queue;
pub(crate) mod job_limit;
mod job_stdin;
pub(crate) mod pressure;
mod pressure_limits;
pub(crate) mod retry_delay;
pub(crate) mod shell;
mod slots;
pub(crate) mod spawner;
