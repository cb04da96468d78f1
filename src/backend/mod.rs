//! Backends: how the ring thread learns from the kernel that a process has ended.
//!
//! The ring thread calls an [`Engine`]. There are three, in order of preference: [`uring`],
//! [`epoll`] where io_uring is denied, and [`threads`] where pidfds are denied too. [`selection`]
//! finds the best one by trying.
//!
//! ```text
//! ring_thread ──► selection ──► uring ─┬─► ring ──► probe, file_table
//!     │                │               ├─► status_fd_queue, retry_queue, stale_polls
//!     │                ├──► epoll ─────┼─► slots, token
//!     │                └──► threads ───┘
//!     └──► engine (the trait; leaf)         stop (shared with the handles; leaf)
//! ```
//!
//! `arming`, `new_watches`, `retries` and `status_requests` are further parts of [`uring::Uring`].
//! No file imports them, except that `status_requests` uses `arming`. A backend never calls the ring
//! thread, and no other thread calls a backend, except that callers add pidfds to [`new_pidfds`].
//!
//! A child that is ours to reap is identified by its pid, which cannot be reused before we reap the
//! child. The io_uring backend keeps the identity of any other process, in order of preference, in:
//!
//! 1. A slot of the ring's registered-file table (used from Linux 6.13 on). It costs no descriptor,
//!    can be turned into one again, and yields the status even after another process reaped (Linux
//!    6.15).
//! 2. The pidfd's inode number (Linux 6.9, where it is never reused). It costs nothing, and yields
//!    the status as long as the process is a zombie.
//! 3. The pidfd, kept open.

mod arming;
mod engine;
mod epoll;
mod file_table;
mod new_pidfds;
mod new_watches;
mod probe;
mod retries;
mod retry_queue;
mod ring;
mod selection;
mod slots;
mod stale_polls;
mod status_fd_queue;
mod status_requests;
mod stop;
mod threads;
mod token;
mod uring;

pub(crate) use engine::{Engine, Event, PID_REUSE_MIN, StatusSource, WaitMode};
pub(crate) use new_pidfds::{NewPidfds, SHORT_SLEEP};
pub(crate) use new_watches::new_watches_max;
pub use selection::{Backend, InvalidBackend};
pub(crate) use selection::{SelectedBackend, open};
pub(crate) use stop::Stop;
pub(crate) use token::KEYS_MAX;
