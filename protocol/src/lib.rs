//! The protocol of `exitring serve`: lines of JSON over a Unix socket, as `docs/PROTOCOL.md`
//! describes them.
//!
//! - [`decode()`] parses a line of a client into a [`Request`], or an [`Error`] with the
//!   [`RequestId`] of the line if it can be read.
//! - [`ServerLine`] is a line of the service: an answer or an event.
//! - [`Client`] is a blocking client.
//!
//! `request`, `resource_limit`, `cgroup`, `reply`, `record` and `error` hold the types, `schema` puts them together for the
//! JSON schema. `decode` and `client` use the types, and nothing uses these two.

#![forbid(unsafe_code)]

mod cgroup;
mod client;
mod decode;
mod error;
mod record;
mod reply;
mod request;
mod resource_limit;
mod schema;

pub use cgroup::{CgroupLimits, CgroupUsage, Cpus};
pub use client::{Client, ClientError, HELLO_TIMEOUT, Notice};
pub use decode::{DEPTH_MAX, Decoded, LINE_MAX, decode};
pub use error::{Code, Error};
pub use record::{Outcome, Record, Unknown, Usage};
pub use reply::{Answer, Counts, Limits, Live, Loss, Page, ServerLine, Watched, Welcome};
pub use request::{
    Acknowledge, Empty, Hello, List, Request, RequestId, Signal, Spawn, Subscribe, Unwatch, Watch,
    WatchFor,
};
pub use resource_limit::{LimitValue, Resource, ResourceLimit};
pub use schema::{ClientLine, Schema};

/// The version of the protocol. A service refuses a [`Hello`] with any other.
pub const VERSION: u32 = 1;
