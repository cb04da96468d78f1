//! Watches process exits on Linux through one io_uring: at once, exactly once, and without a
//! descriptor per process.
//!
//! A [`Watcher`] owns one thread that posts a one-shot poll on each process's pidfd, and a
//! bounded queue to the threads that run callbacks. [`Watcher::watch`] gives a [`Watch`]: add
//! callbacks with [`Watch::on_exit`], or wait for the [`Exit`].
//!
//! ```
//! use std::process::Command;
//! use std::sync::mpsc;
//! use exitring::Watcher;
//!
//! let watcher = Watcher::new()?;
//! let (sender, exits) = mpsc::channel();
//!
//! let mut children = Vec::new();
//! for code in 0..20 {
//!     let child = Command::new("sh").arg("-c").arg(format!("exit {code}")).spawn()?;
//!     let sender = sender.clone();
//!     let watch = watcher.watch(child.id())?;
//!     watch.on_exit(move |exit| sender.send(exit.clone()).unwrap())?;
//!     // The watch may go: its callback stays.
//!     children.push(child);
//! }
//! drop(sender);
//!
//! let mut codes: Vec<_> = exits.iter().map(|exit| exit.status().unwrap().code().unwrap()).collect();
//! codes.sort();
//! assert_eq!(codes, Vec::from_iter(0..20));
//! # for mut child in children { child.wait()?; }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What holds, and the test that shows it, is in `docs/GUARANTEES.md`; how it works in
//! `docs/ARCHITECTURE.md`.

#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

mod backend;
mod builder;
mod callback;
mod child;
pub mod compat;
mod deadlines;
mod duty;
mod error;
mod exit;
mod exit_queue;
mod exits;
mod fork_gate;
mod future;
mod mailbox;
mod orphans;
mod pid;
mod pidfd;
mod process_limit;
mod reap;
mod record;
mod ring_thread;
mod shared;
mod spawn;
mod stats;
mod sys;
mod vfork;
mod wait_graph;
mod watch;
mod watcher;
mod worker;

pub use builder::Builder;
pub use callback::{CallbackId, Cancel};
pub use child::Child;
pub use error::{
    AddError, AdoptError, BuildError, Closed, ForkError, InvalidPid, NoDescriptors, RecvError,
    SignalError, SpawnError, SystemError, WaitError, WatchError,
};
pub use exit::{Exit, Outcome, Unknown, Usage};
pub use exits::{Exits, Tagged};
pub use future::Exited;
pub use pid::Pid;
pub use process_limit::ProcessLimit;
pub use stats::Stats;
pub use watch::Watch;
pub use watcher::Watcher;

/// The README's examples, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
