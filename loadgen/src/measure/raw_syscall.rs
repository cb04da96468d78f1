//! System calls as single instructions, for children that have unmapped libc.
//!
//! They use no `errno`, no table of addresses and no vDSO.

use std::sync::atomic::AtomicU32;

use syscalls::{Sysno, raw_syscall};

fn timespec(ns: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as i64,
    }
}

/// The time of the same clock as [`clock::now_ns`](super::clock::now_ns).
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    let mut now = timespec(0);
    // SAFETY: the pointer is to a live timespec.
    unsafe { raw_syscall!(Sysno::clock_gettime, libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[inline(always)]
pub(crate) fn sleep_until(ns: u64) {
    let until = timespec(ns);
    let interrupted = -libc::EINTR as usize;
    // SAFETY: the pointers are to a live timespec, and null.
    while unsafe {
        raw_syscall!(
            Sysno::clock_nanosleep,
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &raw const until,
            0
        )
    } == interrupted
    {}
}

/// Sleeps on a futex. May return early without a wake-up.
#[inline(always)]
pub(crate) fn wait_while_zero(word: &AtomicU32) {
    // SAFETY: the address is that of a live word, which the call only reads.
    unsafe { raw_syscall!(Sysno::futex, word.as_ptr(), libc::FUTEX_WAIT, 0, 0) };
}

#[inline(always)]
pub(crate) fn munmap(from: usize, to: usize) {
    // SAFETY: the caller does not access this memory any more.
    unsafe { raw_syscall!(Sysno::munmap, from, to - from) };
}

#[inline(always)]
pub(crate) fn exit(code: i32) -> ! {
    loop {
        // SAFETY: a system call without pointers.
        unsafe { raw_syscall!(Sysno::exit_group, code) };
    }
}
