//! Making child processes without `Command` of the standard library.
//!
//! - [`start_gate`]: holds a forked child until its parent has opened its pidfd.
//! - [`vfork`]: a child that shares the memory of its parent.
//!
//! The methods of `Watcher` in [`api`](crate::api) call these, on the caller's thread.

pub(crate) mod start_gate;
pub(crate) mod vfork;
