//! The requests that begin a watch.
//!
//! - `watch.rs`: watches an existing process. `spawn/`: starts a process.
//! - `tag.rs`: the tag of a watch. `pending_reply.rs`: delays records until the reply is sent.
//!
//! `session/` calls this module, and `lifecycle/` reads the name of one variable. It calls
//! `service/` and what is below. A handler returns its answer and knows no connection.

mod pending_reply;
pub(crate) mod spawn;
mod tag;
mod watch;

pub(crate) use self::pending_reply::PendingReply;
pub(crate) use self::tag::TAG_MAX;
pub(crate) use self::watch::watch;
