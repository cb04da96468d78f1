//! How the ring thread learns from the kernel that processes ended.
//!
//! What it asks for is an [`Engine`]. There are three, best first: [`uring`], [`epoll`] where
//! io_uring is denied, and [`waiters`] where pidfds are; [`choice`] finds out by trying.
//!
//! A child that is ours to reap is known by its pid, which is nobody else's before that. With io_uring, what holds the
//! identity of any other process while it is watched is, best first:
//!
//! 1. a slot of the ring's registered-file table (used from Linux 6.13 on): costs no descriptor, can be
//!    made one again, and then tells the status even after somebody else reaped (6.15);
//! 2. the pidfd's inode number (Linux 6.9, where it is never given twice): costs nothing, tells
//!    the status as long as the process is a zombie;
//! 3. the pidfd, kept open.

mod arming;
mod engine;
mod epoll;
mod file_table;
mod probe;
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
pub use selection::{Backend, InvalidBackend};
pub(crate) use selection::{SelectedBackend, open};
pub(crate) use stop::Stop;
pub(crate) use token::KEYS_MAX;
