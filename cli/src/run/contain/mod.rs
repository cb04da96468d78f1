//! Containment (`--contain`): each job has a cgroup of its own, in which all that it starts stays.
//!
//! The library's pool makes the groups, ends their processes, and reports what was in them. What
//! remains for the run is the following.
//!
//! - [`options`] holds the options.
//! - [`pool`] makes the pool, before any job starts, with an error that says what is missing.
//!
//! The supervisor ends what a job has left (`supervisor/leftovers.rs`). What its cgroup says about a
//! job is in its record (`report/containment.rs`).

pub(crate) mod options;
pub(crate) mod pool;
