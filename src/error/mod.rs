//! Errors, one type for each operation. A message names the cause and, where there is one, the
//! remedy.
//!
//! A message does not repeat the message of its source. To print an error in full, print it and
//! then its chain of sources ([`Error::source`](std::error::Error::source)).
//!
//! This module depends on plain values, on the limits that a message names, and on
//! [`sys`](crate::sys). All other modules may use it.

mod build;
mod child;
mod common;
mod receive;
mod spawn;
mod watch;

pub use build::BuildError;
pub use child::{AdoptError, OutputError, SignalError};
pub use common::{Closed, InvalidPid, NoDescriptors, SystemError};
pub use receive::{AddError, RecvError, RecvTimeoutError, TryRecvError};
pub use spawn::{ForkError, SetupStep, SpawnError};
pub use watch::{WaitError, WatchError};

#[cfg(test)]
mod tests;
