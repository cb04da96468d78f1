//! Threads for work that must not run on the runtime's threads.
//!
//! - `spawner.rs`: the main thread, which forks.
//! - `descriptor_closer.rs`: the threads that close descriptors whose close may block.
//! - `socket_closer.rs`: the thread that closes refused connections.
//!
//! `service/` holds the handles, and requests and sessions use them. This module calls no other.

pub(crate) mod descriptor_closer;
pub(crate) mod socket_closer;
pub(crate) mod spawner;
