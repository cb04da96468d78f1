//! The public handles that a program calls.
//!
//! A call runs on the caller's thread. It changes the [`record`](crate::record) of a process, or
//! sends a command to the [`ring thread`](crate::ring_thread), and returns. Calls that block say so
//! in their documentation.
//!
//! - [`builder`]: the options of a watcher, and the start of its threads.
//! - [`watcher`], [`fork`] and [`spawn`]: the methods of `Watcher` that register a process by pid
//!   or pidfd, fork one, and spawn or adopt an owned child. They use [`watch_permit`] (the limit on
//!   watches), [`pidfd`] (from a pidfd to its pid), and [`spawnable`] (the types of commands).
//! - [`spawning`]: the future of a child that one of the threads in [`starters`] starts.
//! - [`watch`] and [`child`]: the handles of one process. `Child` uses [`pipe`] and [`output`],
//!   and with the feature `tokio` `async_pipes`.
//! - [`future`] and [`exits`]: awaiting an exit, and receiving many exits from one queue.
//!
//! The rest of the crate does not call into this module, except that [`shared`](crate::shared) holds
//! the starters. [`compat`](crate::compat) uses the public
//! API only.

#[cfg(feature = "tokio")]
mod async_pipes;
pub(crate) mod builder;
pub(crate) mod child;
pub(crate) mod exits;
mod fork;
pub(crate) mod future;
pub(crate) mod output;
mod pidfd;
pub(crate) mod pipe;
mod registration;
mod spawn;
pub(crate) mod spawnable;
pub(crate) mod spawning;
pub(crate) mod starters;
pub(crate) mod watch;
mod watch_permit;
pub(crate) mod watcher;
