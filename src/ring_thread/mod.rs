//! The ring thread: it takes commands, waits for the kernel, and reads the status of processes
//! that have exited.
//!
//! ```text
//! api ──Command──► mailbox ──► event_loop ──► backend     (arm, wait)
//!                     ▲            │
//!                  notifier        ├──► status_query      (how did it end?)
//!                 (an eventfd)     ├──► deadlines ──► leftover_group
//!                                  └──► dispatch          (to the workers)
//! ```
//!
//! [`mailbox`] and [`notifier`] are shared with the callers' threads, [`stop`] with the thread that
//! drops the watcher. Everything else here is owned by the ring thread.

pub(crate) mod deadlines;
pub(crate) mod event_loop;
pub(crate) mod mailbox;
#[cfg(all(test, exitring_loom))]
pub(crate) mod model_notifier;
pub(crate) mod notifier;
pub(crate) mod status_query;
