//! What all connections share, and the operations on it.
//!
//! - `shared.rs`: `Service`, the shared state. `peer.rs`: the user of a connection.
//! - `arm.rs`: begins and discards watches. `signal.rs`: sends signals. `timeouts.rs`: sends them
//!   to processes that have timed out.
//! - `quotas.rs`: how much of a resource one user may have. `errors.rs`: refusals.
//!
//! `requests/`, `session/`, `lifecycle/` and `run.rs` call this module. It calls `store/`,
//! `watches/`, `cgroups/`, `threads/`, `metrics.rs` and `sys/`.

mod arm;
mod errors;
mod peer;
mod quotas;
mod shared;
mod signal;
pub(crate) mod timeouts;

pub(crate) use self::errors::{exhausted, panicked, stopping};
pub(crate) use self::peer::Peer;
pub(crate) use self::quotas::Quotas;
pub(crate) use self::shared::Service;
