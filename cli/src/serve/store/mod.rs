//! What outlives the service: live watches, and the log of exit records, in SQLite.
//!
//! One thread writes. It puts all that has arrived into one transaction. Only when that is
//! committed does it answer requests and publish records. A subscriber that is behind reads the
//! same file through a second connection.
//!
//! - `handle.rs`: `Store`, which sends messages to the writer. `message.rs`: the messages.
//! - `writer.rs`: the thread. `transaction.rs`: one transaction. `tables.rs`: its statements.
//!   `record_counts.rs`: how many records each user has.
//! - `state.rs`: the state directory and its lock. `schema.rs`: the tables, and older versions of
//!   them.
//! - `age_clock.rs`: the clock for the age of records. `health.rs`: whether the state can be
//!   written.
//! - `recent.rs`: the newest records, in memory. `reader.rs`: pages of records from the file.
//!   `page.rs`: what both return.
//!
//! `service/` and all above call this module. It calls `watches/`, `sys/` and `metrics.rs`: after a
//! commit the writer removes the watches that have ended from the registry, and reaps them.

mod age_clock;
mod handle;
mod health;
mod message;
mod page;
mod reader;
mod recent;
mod record_counts;
mod schema;
mod state;
mod tables;
mod transaction;
mod writer;

pub(crate) use self::handle::Store;
pub(crate) use self::message::ProcessExit;
pub(crate) use self::page::RecordPage;
pub(crate) use self::reader::Reader;
pub(crate) use self::recent::RecentRecords;
pub(crate) use self::state::{Durability, Retention, StateDirectory, StoredWatch};
