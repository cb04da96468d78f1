//! Plain public values: a pid, an exit, the id of a callback, counters.
//!
//! They hold no lock and call nothing. Every other module may use them.

pub(crate) mod callback;
pub(crate) mod exit;
pub(crate) mod pid;
pub(crate) mod stats;
