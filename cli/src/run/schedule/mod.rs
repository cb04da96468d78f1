//! The start of jobs.

pub(crate) mod admission;
pub(crate) mod event_queue;
pub(crate) mod shell;
pub(crate) mod spawner;
