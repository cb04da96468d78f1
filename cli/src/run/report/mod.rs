//! What a run reports about its jobs.
//!
//! [`record`] describes a finished job, and `containment` what its cgroup says. It goes to standard output ([`json`]), to the job log
//! ([`joblog`]), and into the [`summary`]. [`resume`] reads the job log of an earlier run.
//! [`durations`] and [`failed_jobs`] are what others need to know of it, as `past_jobs` reads it.
//! [`junit`] is a report of all jobs, in which `junit_case` describes one and `junit_text` what it wrote.
//! [`progress`] draws the progress bar on `bar_terminal`.
//!
//! [`observers`] collect every attempt for the [`trace`] and the page ([`html`]). [`file_clash`] refuses files that are
//! something else of the run, and `file_kind` those that could block it.

mod bar_terminal;
mod containment;
pub(crate) mod durations;
pub(crate) mod failed_jobs;
pub(crate) mod file_clash;
mod file_kind;
pub(crate) mod html;
pub(crate) mod joblog;
pub(crate) mod json;
pub(crate) mod junit;
pub(crate) mod junit_case;
mod junit_text;
pub(crate) mod observers;
mod past_jobs;
pub(crate) mod progress;
pub(crate) mod record;
pub(crate) mod resume;
pub(crate) mod summary;
pub(crate) mod text;
pub(crate) mod trace;
