//! `exitring serve`: one watcher for all processes of a machine, over a Unix socket.
//!
//! - `options.rs`: the command line. `run.rs`: from the start to the end. `signals.rs`, `anew.rs`: what ends it, and the end that is none.
//! - `listen.rs`, `named_file.rs`, `inherited.rs`, `systemd.rs`: the socket, and what comes from or goes to the outside.
//! - `wire.rs`, `session.rs`, `subscription.rs`: a connection. `closer.rs`: what is closed elsewhere. `watch.rs`; `spawn.rs`, `spawner.rs`, `gate.rs`: the two larger requests.
//! - `shares.rs`: how much of it all one user may have.
//! - `service.rs`, `live.rs`, `deadlines.rs`, `metrics.rs`, `http.rs`: what connections share.
//! - `store/`: what outlives the service. `restore.rs`: what becomes of it at the next start.
//! - `process.rs`: what is asked of the kernel about one process. `clock.rs`: which clock is for what.
//!
//! Who may talk to whom: sessions ask the service; the service tells the store's writer; the writer, after a commit, tells
//! everybody who waits for the log to grow, and reaps. Nobody waits for a client but its own session.

mod anew;
mod clock;
mod closer;
mod deadlines;
mod gate;
mod http;
mod inherited;
mod listen;
mod live;
mod metrics;
mod named_file;
mod options;
mod process;
mod restore;
mod run;
mod service;
mod session;
mod shares;
mod signals;
mod spawn;
mod spawner;
mod store;
mod subscription;
mod systemd;
mod watch;
mod wire;

pub(crate) use self::inherited::{HANDOVER, close_on_exec};
pub(crate) use self::options::ServeOptions;
pub(crate) use self::run::run;
