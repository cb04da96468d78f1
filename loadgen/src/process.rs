//! What this process uses.

use std::fs;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

pub(crate) fn open_descriptors() -> Result<u64> {
    let open = fs::read_dir("/proc/self/fd").context("reading /proc/self/fd")?;
    // One of them is the directory itself.
    Ok(open.count() as u64 - 1)
}

/// User and system time, all threads.
pub(crate) fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
