//! The signal mask of a thread.

use std::mem;

/// A set of blocked signals.
#[derive(Clone, Copy)]
pub(crate) struct SignalMask(libc::sigset_t);

/// The signals that a thread raises itself, whose handlers must run on that thread, and the timers
/// of profilers.
///
/// Faults serve stack overflow detection, garbage collectors and compiled WebAssembly; `SIGSYS` is
/// a trap of seccomp; `SIGABRT` comes from `abort(3)`.
const SYNCHRONOUS: [libc::c_int; 9] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
    libc::SIGPROF,
    libc::SIGVTALRM,
];

impl SignalMask {
    /// The mask of the calling thread.
    pub(crate) fn of_this_thread() -> Self {
        // SAFETY: a null set changes nothing; the set is filled before it is read.
        unsafe {
            let mut mask: libc::sigset_t = mem::zeroed();
            libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut mask);
            Self(mask)
        }
    }

    /// The mask that blocks every signal.
    fn all() -> Self {
        // SAFETY: the set is filled before it is read.
        unsafe {
            let mut mask: libc::sigset_t = mem::zeroed();
            libc::sigfillset(&raw mut mask);
            Self(mask)
        }
    }

    /// Blocks every signal in the calling thread, until the result is dropped.
    pub(crate) fn block_all() -> MaskApplied {
        Self::all().block()
    }

    /// Also blocks all signals except the [`SYNCHRONOUS`] ones in the calling thread, until the
    /// result is dropped.
    pub(crate) fn block_asynchronous() -> MaskApplied {
        let Self(mut mask) = Self::all();
        for signal in SYNCHRONOUS {
            // SAFETY: the set is initialised, and the signals are valid.
            unsafe { libc::sigdelset(&raw mut mask, signal) };
        }
        Self(mask).block()
    }

    fn block(&self) -> MaskApplied {
        // SAFETY: both are plain C structures; the old set is filled before it is read.
        unsafe {
            let mut before: libc::sigset_t = mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const self.0, &raw mut before);
            MaskApplied(Self(before))
        }
    }

    /// Makes this the mask of the calling thread.
    pub(crate) fn set(&self) {
        // SAFETY: the set is initialised, and a null pointer discards the old set.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut());
        }
    }
}

/// Restores the previous mask of the thread when dropped.
#[must_use = "the previous mask is restored when this is dropped"]
pub(crate) struct MaskApplied(SignalMask);

impl Drop for MaskApplied {
    fn drop(&mut self) {
        self.0.set();
    }
}
