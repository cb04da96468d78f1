//! `spawn`: processes that the service starts.
//!
//! A process is stored before its program runs. The service forks it; the child opens its files,
//! and waits at its start gate, a socket pair, until the commit. Only then does it execute the
//! program. If the service is killed before that, the child exits. So the program runs if and only
//! if its watch is stored, and after a crash there is no unknown process to search for.
//!
//! - `request.rs`: the request, from the fork to the answer. `command.rs`: what to start.
//!   `attributes.rs`: limits, nice value and umask. `refusal.rs`: refusals of both.
//! - `start_gate.rs`: the service's end of the start gate. `messages.rs`: what goes through it.
//! - `child.rs`: the child between fork and exec. `program.rs`: the exec.
//!
//! `request.rs` calls `command.rs` and `start_gate.rs`. `command.rs` calls `attributes.rs`, and sets
//! up `child.rs`, which calls `program.rs` after the fork. Both ends of the start gate use `messages.rs`.

mod attributes;
mod child;
mod command;
mod messages;
mod program;
mod refusal;
mod request;
mod start_gate;

pub(crate) use self::child::EXIT_NOT_STARTED;
pub(crate) use self::request::spawn;
