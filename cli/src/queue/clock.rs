//! The clock of leases.
//!
//! The clock of `Instant` stops while the machine is suspended. The server's does not, so neither
//! must the clock by which a worker counts its leases.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time since the machine was booted.
pub(super) fn since_boot() -> Duration {
    // This clock has no negative times.
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}
