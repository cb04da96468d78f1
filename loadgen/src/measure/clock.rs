//! The clock that all processes share, and the CPU time that they used.

use std::io;

use anyhow::{Context, Result};
use exitring::Pid;

/// The time of `CLOCK_MONOTONIC`, which is the same in every process.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// User and system time of this or another process. Includes all threads, also those that have
/// ended.
pub(crate) fn cpu_ns(pid: Option<Pid>) -> Result<u64> {
    let mut clock = libc::CLOCK_PROCESS_CPUTIME_ID;
    if let Some(pid) = pid {
        // SAFETY: the pointer is to a live clock id.
        let error = unsafe { libc::clock_getcpuclockid(pid.as_raw(), &raw mut clock) };
        if error != 0 {
            let error = io::Error::from_raw_os_error(error);
            return Err(error).context("finding the CPU clock of another process");
        }
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live timespec.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error()).context("reading a CPU clock");
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// User and system time of this thread.
pub(crate) fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
