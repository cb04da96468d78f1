//! One connection.
//!
//! - `connection.rs`: from the accept to the close; reads requests and writes replies.
//! - `dispatch.rs`: calls the handler of each request. `state.rs`: what a session remembers.
//! - `subscription.rs`: sends records beside the replies. `reply.rs`: the lines of the service.
//! - `line_socket.rs`: the socket, line by line, with the descriptors that come along.
//!
//! `accept.rs` calls this module. It calls `requests/`, `service/` and what is below. Only a
//! session waits for its own client.

mod connection;
mod dispatch;
mod line_socket;
mod reply;
mod state;
mod subscription;

pub(crate) use self::connection::{refuse, serve};
