//! The queue's part of `exitring run --queue`.
//!
//! ```text
//!            jobs                               records
//! pulls ───────────► admission ► … ► supervisor ─────────► publications
//!   ▲                                     │ job dropped         │
//!   └───────────── lease given back ◄─────┘                     ▼
//!                                                          job acknowledged
//! ```
//!
//! [`prepare`] reads what the run is, before the first thread of the process starts. [`thread`] is
//! the thread of the queue, which owns all leases. [`pulls`] asks the server for jobs, as [`pace`]
//! says how many; [`redelivery`] decides about jobs that were delivered before; [`publication`]
//! stores results, which wait in a [`buffer`], and [`log_upload`] logs;
//! [`give_back`] is for jobs that do not run here. The job of the run has a [`lease`], and the
//! supervisor has a [`link`] with the thread.

mod buffer;
mod give_back;
pub(crate) mod lease;
pub(crate) mod link;
mod log_upload;
mod pace;
mod parts;
pub(crate) mod prepare;
mod publication;
mod pulls;
mod redelivery;
mod thread;
