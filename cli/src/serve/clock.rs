//! Clocks, and which of them is for what.
//!
//! - The wall clock tells people when something was. It can be set, so that no two of its times say how long anything took.
//! - The monotonic clock measures how long a program may run. It stands still while the machine is suspended, as programs do.
//! - The boot clock measures age: it goes on when the machine is suspended.
//!
//! The last two begin at each boot; the boot's name says whether two of their times are of the same.

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

/// This boot of the machine, as the kernel names it.
pub(crate) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_owned()
}

/// Of a clock that never has times before its beginning.
fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
}
