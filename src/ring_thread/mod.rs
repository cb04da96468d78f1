//! The ring thread: it takes commands, waits for the kernel, and reads the status of processes that
//! have exited.
//!
//! ```text
//! api ──Command──► mailbox ──► event_loop ──► backend     (arm, wait)
//!                     ▲            │
//!                  notifier        ├──► status_query      (how did it end?)
//!                 (an eventfd)     ├──► deadlines         (signals, through the record)
//!                                  └──► dispatch          (to the workers)
//! ```
//!
//! Callers' threads use [`mailbox`] and [`notifier`] through `Shared`. Only the ring thread uses
//! everything else here. Nothing here is called by `backend`, `record` or `dispatch`, except that a
//! worker reads an [`unread_exit`] that was passed to it, wakes the ring thread through the mailbox,
//! and sends it commands.

pub(crate) mod command;
mod deadlines;
mod delivery;
pub(crate) mod event_loop;
pub(crate) mod mailbox;
#[cfg(all(test, exitring_loom))]
pub(crate) mod model_notifier;
pub(crate) mod notifier;
mod orphans;
mod status_query;
pub(crate) mod unread_exit;
