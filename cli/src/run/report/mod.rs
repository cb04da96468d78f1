//! What a run reports about its jobs.

pub(crate) mod bar_terminal;
pub(crate) mod joblog;
pub(crate) mod progress;
pub(crate) mod record;
pub(crate) mod resume;
pub(crate) mod summary;
