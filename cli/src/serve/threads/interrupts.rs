//! A signal that interrupts a thread again and again while it is in a system call.

use std::{io, mem, ptr};

use rustix::thread::gettid;

/// The signal of the timer.
const SIGNAL: i32 = libc::SIGALRM;
const INTERVAL_NS: i64 = 1_000_000;

/// Handles the signal, so that it interrupts. An exec and each child reset that.
pub(super) fn handle_signal() -> io::Result<()> {
    extern "C" fn ignore(_: i32) {}
    // SAFETY: the handler does nothing, and zeroes are a valid mask and valid flags.
    let result = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(i32) as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(SIGNAL, &raw const action, ptr::null_mut())
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A timer that sends the signal to one thread. The end of the process deletes it.
pub(super) struct Interrupts(libc::timer_t);

/// The timer runs until this is dropped.
pub(super) struct Running<'a>(&'a Interrupts);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

impl Interrupts {
    pub(super) fn of_this_thread() -> io::Result<Self> {
        // SAFETY: zeroes are a valid event, and both pointers are to live values.
        unsafe {
            let mut event: libc::sigevent = mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = SIGNAL;
            event.sigev_notify_thread_id = gettid().as_raw_nonzero().get();
            let mut timer = mem::zeroed();
            match libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) {
                0 => Ok(Self(timer)),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }

    pub(super) fn start(&self) -> Running<'_> {
        self.set(INTERVAL_NS);
        Running(self)
    }

    /// Sets the interval. Zero stops the timer.
    fn set(&self, interval_ns: i64) {
        let interval = libc::timespec {
            tv_sec: 0,
            tv_nsec: interval_ns as _,
        };
        let times = libc::itimerspec {
            it_interval: interval,
            it_value: interval,
        };
        // SAFETY: the timer exists, and the pointer is to a live value. No argument is invalid, so
        // this does not fail.
        unsafe { libc::timer_settime(self.0, 0, &raw const times, ptr::null_mut()) };
    }
}
