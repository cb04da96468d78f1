//! Watches process exits on Linux through one io_uring: at once, exactly once, and without a
//! descriptor per process.
//!
//! A [`Watcher`] owns one thread that posts a one-shot poll on each process's pidfd, and a
//! bounded queue to the threads that run callbacks.
//!
//! - [`Watcher::spawn`] and [`Watcher::adopt`] give a [`Child`], which the watcher owns and reaps:
//!   signals, deadlines, status, and what it used.
//! - [`Watcher::watch`] and [`Watcher::watch_pidfd`] give a [`Watch`] on what somebody else reaps.
//! - Of either, learn the [`Exit`] by a callback ([`Watch::on_exit`]), by waiting ([`Watch::wait`]), by
//!   awaiting (`watch.await`, [`Watch::exited`]), or fetch many from one queue ([`Exits`]).
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
//!     // The handle may go: its callback stays, and the child is reaped.
//! }
//! drop(sender);
//!
//! let mut codes: Vec<_> = exits.iter().map(|exit| exit.status().unwrap().code().unwrap()).collect();
//! codes.sort();
//! assert_eq!(codes, Vec::from_iter(0..20));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What holds, and the test that shows it, is in `docs/GUARANTEES.md`; how it works in
//! `docs/ARCHITECTURE.md`.

#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

mod api;
mod backend;
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
mod types;

pub use api::builder::Builder;
pub use api::child::Child;
pub use api::exits::{Exits, ExitsIntoIter, ExitsIter, ExitsTryIter, Tagged};
pub use api::future::{Exited, OwnedExited};
pub use api::output::Output;
pub use api::pipe::Pipe;
pub use api::watch::Watch;
pub use api::watcher::Watcher;
pub use backend::{Backend, InvalidBackend};
pub use error::{
    AddError, AdoptError, BuildError, Closed, ForkError, InvalidPid, NoDescriptors, OutputError,
    RecvError, RecvTimeoutError, SignalError, SpawnError, SystemError, TryRecvError, WaitError,
    WatchError,
};
pub use process_limit::ProcessLimit;
pub use types::callback::{CallbackId, Cancel};
pub use types::exit::{Exit, Outcome, Unknown, Usage};
pub use types::pid::Pid;
pub use types::stats::Stats;

/// The README's examples, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
