//! The signal mask of a thread.
//!
//! The raw system call is used, because the C library's functions leave out the signals that it
//! uses itself: those that cancel a thread, and that change the user of all threads. A child in the
//! memory of its parent has to block these too.

use std::ptr;

/// A set of blocked signals: bit `n - 1` is signal `n`, as in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignalMask(u64);

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

/// The first signal of those that the C library uses itself. The last is before `SIGRTMIN`.
const LIBC_FIRST: libc::c_int = 32;

impl SignalMask {
    pub(crate) const ALL: Self = Self(u64::MAX);

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The mask of the calling thread.
    pub(crate) fn of_this_thread() -> Self {
        change(libc::SIG_SETMASK, None)
    }

    /// The signals that are blocked in the calling thread and were sent to it or to the process.
    /// Async-signal-safe.
    pub(crate) fn pending() -> Self {
        let mut pending: KernelSet = [0; WORDS];
        // SAFETY: the set has the kernel's size.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigpending,
                pending.as_mut_ptr(),
                size_of::<KernelSet>(),
            );
        }
        from_kernel(pending)
    }

    pub(crate) fn intersects(&self, signals: &[i32]) -> bool {
        signals
            .iter()
            .any(|signal| self.0 & (1 << (signal - 1)) != 0)
    }

    /// Blocks every signal in the calling thread, until the result is dropped.
    pub(crate) fn block_all() -> MaskApplied {
        MaskApplied(change(libc::SIG_SETMASK, Some(Self::ALL)))
    }

    /// Also blocks all signals except the [`SYNCHRONOUS`] ones, and those of the C library, in the
    /// calling thread, until the result is dropped.
    pub(crate) fn block_asynchronous() -> MaskApplied {
        let of_libc = LIBC_FIRST..libc::SIGRTMIN();
        let unblocked = SYNCHRONOUS.into_iter().chain(of_libc);
        let mask = unblocked.fold(Self::ALL.0, |mask, signal| mask & !(1 << (signal - 1)));
        MaskApplied(change(libc::SIG_BLOCK, Some(Self(mask))))
    }

    /// Makes this the mask of the calling thread. Async-signal-safe.
    pub(crate) fn set(&self) {
        change(libc::SIG_SETMASK, Some(*self));
    }
}

/// A set as the kernel takes it: words with the lowest signals first.
type KernelSet = [libc::c_ulong; WORDS];

/// The kernel's `_NSIG`, which is 128 on MIPS.
const SIGNALS: usize = if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    128
} else {
    64
};
const WORD_BITS: usize = libc::c_ulong::BITS as usize;
const WORDS: usize = SIGNALS / WORD_BITS;

fn to_kernel(SignalMask(bits): SignalMask) -> KernelSet {
    let mut words = [0; WORDS];
    for (index, word) in words.iter_mut().enumerate().take(64 / WORD_BITS) {
        *word = (bits >> (index * WORD_BITS)) as libc::c_ulong;
    }
    words
}

#[allow(
    clippy::unnecessary_cast,
    reason = "a word has 32 bits on some architectures"
)]
fn from_kernel(words: KernelSet) -> SignalMask {
    let words = words.into_iter().enumerate().take(64 / WORD_BITS);
    SignalMask(words.fold(0, |bits, (index, word)| {
        bits | (word as u64) << (index * WORD_BITS)
    }))
}

/// Changes the mask of the calling thread, and returns the one before. Cannot fail with a valid
/// operation.
fn change(operation: libc::c_int, mask: Option<SignalMask>) -> SignalMask {
    let new = mask.map(to_kernel);
    let mut before: KernelSet = [0; WORDS];
    // SAFETY: both point to a set of the kernel's size, or are null.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            operation,
            new.as_ref().map_or(ptr::null(), |new| new.as_ptr()),
            before.as_mut_ptr(),
            size_of::<KernelSet>(),
        );
    }
    from_kernel(before)
}

/// Restores the previous mask of the thread when dropped.
#[must_use = "the previous mask is restored when this is dropped"]
pub(crate) struct MaskApplied(SignalMask);

impl MaskApplied {
    pub(crate) fn before(&self) -> SignalMask {
        self.0
    }
}

impl Drop for MaskApplied {
    fn drop(&mut self) {
        self.0.set();
    }
}
