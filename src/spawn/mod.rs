//! Making child processes without `Command` of the standard library.
//!
//! - [`clone`]: the system call that makes a child in the memory of its parent.
//! - [`process`]: starts a [`Command`](crate::Command): prepares it, makes the child, and finds out
//!   why it failed. [`setup`] is what the child does, [`descriptors`] the part of it that maps
//!   descriptors, and [`signal_actions`] a part that other children need too.
//! - [`dumpable`]: protects the memory from the new user of a child.
//! - [`diagnosis`]: from a failed step to the error that the caller gets.
//! - [`vfork`]: a child that runs a closure.
//! - [`starts`]: the starts that are under way.
//! - [`start_gate`]: holds a forked child until its parent has opened its pidfd.
//!
//! The methods of `Watcher` in [`api`](crate::api) call these, on the caller's thread.

pub(crate) mod clone;
mod descriptors;
mod diagnosis;
mod dumpable;
pub(crate) mod process;
mod setup;
mod signal_actions;
mod stack;
pub(crate) mod start_gate;
pub(crate) mod starts;
pub(crate) mod vfork;
