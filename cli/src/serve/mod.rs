//! `exitring serve`: one watcher for all processes of a machine, over a Unix socket.
//!
//! From the top to the bottom; a file or module calls only what is listed below it:
//!
//! - `run.rs`: from the start to the end. `options.rs`: the command line.
//! - `accept.rs`: the main loop. `http.rs`: `/metrics` over HTTP.
//! - `lifecycle/`: the socket, signals, systemd, and the restart.
//! - `session/`: a connection. `requests/`: the requests that begin a watch.
//! - `service/`: what all connections share.
//! - `store/`: the SQLite log and its writer. `threads/`: the spawner, and the descriptor closer.
//! - `watches/`: live watches, in memory. `cgroups/`: the cgroups of children. `metrics.rs`: the
//!   counters.
//! - `sys/`: processes, clocks, files.
//!
//! The path of an exit: the library calls the callback in `service/arm.rs`, which sends the exit to
//! the writer in `store/`. The writer commits it, publishes its sequence number, and reaps the
//! process. Each subscription in `session/` waits for that number, and sends the record. Only a
//! session waits for its own client.

mod accept;
mod cgroups;
mod http;
mod lifecycle;
mod metrics;
mod options;
mod requests;
mod run;
mod service;
mod session;
mod store;
mod sys;
mod threads;
mod watches;

pub(crate) use self::options::ServeOptions;
pub(crate) use self::run::run;
