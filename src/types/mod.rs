//! Plain values: a pid, an exit, the id of a callback, counters.
//!
//! They hold no lock and use no other module but the error of a wrong pid. Every other module may
//! use them.

pub(crate) mod callback;
pub(crate) mod exit;
pub(crate) mod pid;
pub(crate) mod stats;
