//! The page of a run (`--report`): one HTML file that refers to no other.
//!
//! [`collector`] keeps what the page shows, in a size that does not grow with the list: counts,
//! distributions, the jobs that took most ([`most`]), failed jobs, and a [`sample`] of the timeline.
//! [`document`] composes the page, with the charts of [`distribution`] and the texts of [`format`](mod@format).
//! [`page_file`] writes it.

pub(crate) mod collector;
mod distribution;
mod document;
mod format;
mod most;
pub(crate) mod page_file;
mod sample;
