//! Queues on a NATS server. Each test has a server of its own, which needs `nats-server` in PATH.

mod cancel;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod connection;
mod credentials;
mod deleted_runs;
mod logs;
mod lost_workers;
mod outages;
mod output;
mod proxy;
mod refusals;
mod results;
mod secured_server;
mod server;
mod submit;
mod workers;
