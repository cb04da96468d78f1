//! What a run reports about its jobs.
//!
//! [`record`] describes a finished job. It goes to standard output ([`json`]), to the job log
//! ([`joblog`]), and into the [`summary`]. [`resume`] reads the job log of an earlier run.
//! [`durations`] and [`failed_jobs`] are what others need to know of it, as `past_jobs` reads it.
//! [`junit`] is a report of all jobs, in which `junit_case` describes one and `junit_text` what it wrote.
//! [`progress`] draws the progress bar on `bar_terminal`.

mod bar_terminal;
pub(crate) mod durations;
pub(crate) mod failed_jobs;
pub(crate) mod joblog;
pub(crate) mod json;
pub(crate) mod junit;
pub(crate) mod junit_case;
mod junit_text;
mod past_jobs;
pub(crate) mod progress;
pub(crate) mod record;
pub(crate) mod resume;
pub(crate) mod summary;
