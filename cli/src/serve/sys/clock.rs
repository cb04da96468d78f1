//! The clocks, and what each is for.
//!
//! - The wall clock tells people when something happened. It can be set, so the difference of two
//!   of its times is no duration.
//! - The monotonic clock measures how long a program may run. It stops while the machine is
//!   suspended, as programs do.
//! - The boot clock measures age. It continues while the machine is suspended.
//!
//! The last two start at each boot. The boot id says whether two of their times belong to the same
//! boot.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since 1970, by the wall clock.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

pub(crate) fn monotonic_ms() -> u64 {
    read(ClockId::Monotonic)
}

pub(crate) fn boottime_ms() -> u64 {
    read(ClockId::Boottime)
}

/// The kernel's id of this boot of the machine.
pub(crate) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_owned()
}

/// Milliseconds of a clock that has no negative times.
fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
}
