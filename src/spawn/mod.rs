//! How a child process is made when the standard library's `Command` does not make it.
//!
//! Called by the handles in [`api`](crate::api), on the caller's thread.

pub(crate) mod fork_gate;
pub(crate) mod vfork;
