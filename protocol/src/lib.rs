//! What `exitring serve` and its clients say to each other: lines of JSON over a Unix socket, as
//! `docs/PROTOCOL.md` has them.
//!
//! - [`decode()`] makes a [`Request`] of a line, or an [`Error`] with the line's [`RequestId`] if that can be told.
//! - [`ServerLine`] is what the service writes: replies and events.
//! - [`Client`] is a client that blocks.

#![forbid(unsafe_code)]

mod client;
mod decode;
mod error;
mod record;
mod reply;
mod request;
mod schema;

pub use client::{Client, ClientError, HELLO_PATIENCE, Notice};
pub use decode::{DEPTH_MAX, Decoded, LINE_MAX, decode};
pub use error::{Code, Error};
pub use record::{Outcome, Record, Unknown, Usage};
pub use reply::{Answer, Counts, Limits, Live, Loss, Page, ServerLine, Watched, Welcome};
pub use request::{
    Acknowledge, Empty, Hello, List, Moment, Request, RequestId, Signal, Spawn, Subscribe, Unwatch,
    Watch,
};
pub use schema::{ClientLine, Schema};

/// The version of the protocol that this is. A service refuses any other in [`Hello`].
pub const VERSION: u32 = 1;
