//! Threads for work that must not run on the runtime's threads.
//!
//! - `spawner.rs`: the main thread, which forks.
//! - `closer.rs`: the threads that close what belongs to clients. `interrupts.rs`: a timer that
//!   interrupts them.
//!
//! `service/` holds the handles, and requests and sessions use them. This module calls no other.

pub(crate) mod closer;
mod interrupts;
pub(crate) mod spawner;
