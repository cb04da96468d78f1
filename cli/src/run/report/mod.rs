//! What a run reports about its jobs.
//!
//! [`record`] describes a finished job, and `containment` what its cgroup says. It goes to standard output ([`json`]), to the job log
//! ([`joblog`]), and into the [`summary`]. [`resume`] reads the job log of an earlier run.
//! [`progress`] draws the progress bar on `bar_terminal`.
//!
//! [`observers`] collect every attempt for the [`trace`] and the page ([`html`]). [`file_clash`] refuses files that are
//! something else of the run.

mod bar_terminal;
mod containment;
pub(crate) mod file_clash;
pub(crate) mod html;
pub(crate) mod joblog;
pub(crate) mod json;
pub(crate) mod observers;
pub(crate) mod progress;
pub(crate) mod record;
pub(crate) mod resume;
pub(crate) mod summary;
pub(crate) mod text;
pub(crate) mod trace;
