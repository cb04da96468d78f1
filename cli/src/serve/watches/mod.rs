//! Live watches, in memory.
//!
//! - `info.rs`: what is stored of a watch. `live.rs`: a live watch.
//! - `registry.rs`: all live watches, and the permits for more. `scope.rs`: which of them a client
//!   sees.
//! - `deadlines.rs`: the timeouts of live watches.
//!
//! `store/`, `service/` and all above call this module. It calls `cgroups/` and `sys/`.

mod deadlines;
mod info;
mod live;
mod registry;
mod scope;

pub(crate) use self::deadlines::Deadlines;
pub(crate) use self::info::WatchInfo;
pub(crate) use self::live::LiveWatch;
pub(crate) use self::registry::Registry;
pub(crate) use self::scope::Scope;
