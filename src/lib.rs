//! Watches process exits on Linux through one io_uring: without delay, exactly once, and without a
//! descriptor for each process.
//!
//! A [`Watcher`] owns a ring thread, which arms a one-shot poll on the pidfd of each process, and a
//! bounded queue to the worker threads, which run callbacks.
//!
//! - [`Watcher::spawn`] and [`Watcher::adopt`] return a [`Child`], which the watcher owns and
//!   reaps: with signals, deadlines, status and resource usage.
//! - [`Watcher::watch`] and [`Watcher::watch_pidfd`] return a [`Watch`] on a process that other
//!   code reaps.
//! - Both deliver the [`Exit`] to a callback ([`Watch::on_exit`]), to a thread that waits
//!   ([`Watch::wait`]), to a future (`watch.await`, [`Watch::exited`]), or to a queue for many
//!   processes ([`Exits`]).
//!
//! ```
//! use std::process::Command;
//! use std::sync::mpsc;
//! use exitring::Watcher;
//!
//! let watcher = Watcher::new()?;
//! let (sender, exits) = mpsc::channel();
//! for code in 0..20 {
//!     let child = watcher.spawn(Command::new("sh").arg("-c").arg(format!("exit {code}")))?;
//!     let sender = sender.clone();
//!     child.on_exit(move |exit| sender.send(exit.clone()).unwrap())?;
//!     // The handle is dropped here; its callback still runs, and the child is reaped.
//! }
//! drop(sender);
//!
//! let codes = exits.iter().map(|exit| exit.status().unwrap().code().unwrap());
//! let mut codes: Vec<_> = codes.collect();
//! codes.sort();
//! assert_eq!(codes, Vec::from_iter(0..20));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `docs/GUARANTEES.md` lists the guarantees, each with the test that checks it.
//! `docs/ARCHITECTURE.md` explains how the crate works.

#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

mod api;
mod backend;
mod cgroup;
mod command;
pub mod compat;
mod dispatch;
mod error;
mod faults;
pub mod limits;
#[cfg(all(test, exitring_loom))]
mod models;
mod process_limit;
mod record;
mod ring_thread;
mod shared;
mod spawn;
mod sync;
mod sys;
mod trace;
mod types;

pub use api::builder::Builder;
pub use api::child::Child;
pub use api::exits::{Exits, ExitsIntoIter, ExitsIter, ExitsTryIter};
pub use api::future::{Exited, OwnedExited};
pub use api::output::Output;
pub use api::pipe::Pipe;
pub use api::spawnable::Spawn;
pub use api::spawning::Spawning;
pub use api::watch::Watch;
pub use api::watcher::Watcher;
pub use backend::{Backend, InvalidBackend};
pub use cgroup::{Cgroup, CgroupError, CgroupLeaf, CgroupLimits, CgroupPool, CgroupReport};
pub use command::{Command, Environment, Resource, Scheduling, Stdio};
pub use dispatch::tagged_queue::Tagged;
pub use error::{
    AddError, AdoptError, BuildError, Closed, ForkError, InvalidPid, NoDescriptors, OutputError,
    RecvError, RecvTimeoutError, SetupStep, SignalError, SpawnError, SystemError, TryRecvError,
    WaitError, WatchError,
};
pub use process_limit::ProcessLimit;
pub use types::callback::{CallbackId, Cancel};
pub use types::exit::{Exit, Outcome, Unknown, Usage};
pub use types::pid::Pid;
pub use types::stats::Stats;

/// The examples of the README, compiled and run as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
