//! Identities of processes, which distinguish a forked child from its parent, and statics that each
//! process has for itself, so that a forked child finds no lock that is held by a thread that
//! `fork` did not copy.
//!
//! The pid is not sufficient as an identity: in a new pid namespace, the child of a process with
//! pid 1 has pid 1 too. The identity is in a page that the kernel zeroes in a forked child
//! (`MADV_WIPEONFORK`, Linux 4.14, kernel commit d2cd9ede6e19), whether it was forked by `fork(3)`
//! or by the plain system call. Reading it is a load, whereas `getpid(2)` is a system call.
//!
//! A child that shares the memory (`vfork(2)`, `clone(2)` with `CLONE_VM`) shares the page as well.
//! A child of this crate ([`vfork`](crate::spawn::vfork::vfork)) is marked in a thread-local
//! variable. Others may do nothing but execute a program or end.

#![allow(
    unsafe_code,
    reason = "memory mappings, and pointers that are shared by threads"
)]

use std::cell::Cell;
use std::num::NonZeroU64;
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// The identity of the process that called [`ProcessIdentity::current`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessIdentity(NonZeroU64);

/// The location of the identity: the start of a page that is zeroed on fork, or `FALLBACK`. Null
/// before the first use.
static LOCATION: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());
/// The identity where no page can be zeroed on fork. A handler that the C library's `fork` calls
/// resets it, and it is compared with the pid.
static FALLBACK: AtomicU64 = AtomicU64::new(0);
/// The number of the next identity. A forked child continues the count of its parent, so it never
/// assigns an identity of which it has a copy.
static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// Whether a child that shares the memory runs in place of this thread, which is suspended.
    static IN_VFORK_CHILD: Cell<bool> = const { Cell::new(false) };
}

impl ProcessIdentity {
    /// The identity of the calling process. Async-signal-safe in a forked child, if the parent
    /// called it before the fork.
    pub(crate) fn current() -> Self {
        let mut location = LOCATION.load(Ordering::Acquire);
        if location.is_null() {
            location = set_location(&LOCATION, map_wipe_on_fork().unwrap_or(FALLBACK_LOCATION));
        }
        // SAFETY: the location is the static, or a mapping that is never removed.
        let word = unsafe { &*location };
        let found = word.load(Ordering::Relaxed);
        match NonZeroU64::new(found) {
            Some(identity) if location != FALLBACK_LOCATION || has_current_pid(found) => {
                Self(identity)
            }
            _ => Self::assign(word, found),
        }
    }

    /// Whether this is the identity of the calling process. `false` in a child made by
    /// [`vfork`](crate::spawn::vfork::vfork).
    pub(crate) fn is_current(self) -> bool {
        self == Self::current() && !IN_VFORK_CHILD.get()
    }

    /// Assigns the identity at the first use in this process.
    #[cold]
    fn assign(word: &AtomicU64, before: u64) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let new = number << 32 | u64::from(process::id());
        let identity =
            match word.compare_exchange(before, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => new,
                // Another thread assigned it first.
                Err(other) => other,
            };
        Self(
            NonZeroU64::new(identity)
                .expect("only a fork resets it, which does not copy this thread into the child"),
        )
    }
}

/// The size of the mapping, which the kernel rounds up to a page.
const BYTES: usize = size_of::<AtomicU64>();
const FALLBACK_LOCATION: *mut AtomicU64 = (&raw const FALLBACK).cast_mut();

/// Marks whether a child that shares the memory runs in place of this thread.
pub(crate) fn set_in_vfork_child(active: bool) {
    IN_VFORK_CHILD.set(active);
}

fn has_current_pid(identity: u64) -> bool {
    identity as u32 == process::id()
}

/// Sets the location, unless another thread did so first. Returns the one that is set.
#[cold]
fn set_location(current: &AtomicPtr<AtomicU64>, location: *mut AtomicU64) -> *mut AtomicU64 {
    if location == FALLBACK_LOCATION {
        // SAFETY: the handler is async-signal-safe. If it cannot be registered, the comparison of
        // the pid remains.
        unsafe { libc::pthread_atfork(None, None, Some(reset_fallback)) };
    }
    match current.compare_exchange(
        ptr::null_mut(),
        location,
        Ordering::AcqRel,
        Ordering::Acquire,
    ) {
        Ok(_) => location,
        Err(other) => {
            if location != FALLBACK_LOCATION {
                // SAFETY: a mapping of this call, which no other code knows.
                let _ = unsafe { munmap(location.cast(), BYTES) };
            }
            other
        }
    }
}

unsafe extern "C" fn reset_fallback() {
    FALLBACK.store(0, Ordering::Relaxed);
}

/// Maps a zeroed page that the kernel zeroes again in each forked child. `None` if that fails.
fn map_wipe_on_fork() -> Option<*mut AtomicU64> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let page =
        unsafe { mmap_anonymous(ptr::null_mut(), BYTES, protection, MapFlags::PRIVATE) }.ok()?;
    // Some emulators accept any advice and follow none. An invalid advice detects them.
    // SAFETY: the page was just mapped, and no other code knows it.
    let wiped = unsafe {
        libc::madvise(page, BYTES, -1) != 0
            && libc::madvise(page, BYTES, libc::MADV_WIPEONFORK) == 0
    };
    if !wiped {
        // SAFETY: the page was mapped above, and no other code knows it.
        let _ = unsafe { munmap(page, BYTES) };
        return None;
    }
    Some(page.cast())
}

/// A static that each process makes at its first use, and never frees.
pub(crate) struct PerProcess<T: 'static>(AtomicPtr<Entry<T>>);

/// A value, tagged with the process that made it.
struct Entry<T> {
    process: ProcessIdentity,
    value: T,
}

impl<T: Default + Send + Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    pub(crate) fn get(&self) -> &'static T {
        let process = ProcessIdentity::current();
        let mut found = self.0.load(Ordering::Acquire);
        loop {
            // SAFETY: null, or made below; a published value is never freed.
            match unsafe { found.as_ref() } {
                Some(entry) if entry.process == process => return &entry.value,
                _ => {}
            }
            let value = T::default();
            let new = Box::into_raw(Box::new(Entry { process, value }));
            // The value of the parent is left alone: the threads that could unlock it are not in
            // this process.
            match self
                .0
                .compare_exchange(found, new, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => found = new,
                Err(other) => {
                    // SAFETY: made above, and not published.
                    drop(unsafe { Box::from_raw(new) });
                    found = other;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Barrier, Mutex};
    use std::thread;

    #[test]
    fn concurrent_first_uses_get_the_same_value() {
        static COUNT: PerProcess<Mutex<usize>> = PerProcess::new();
        let all = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    all.wait();
                    *COUNT.get().lock().expect("no thread panics") += 1;
                });
            }
        });
        assert_eq!(*COUNT.get().lock().expect("no thread panics"), 8);
    }

    /// Checks in a forked child that its identity differs from its parent's, and does not change.
    fn check_forked_child(fork: impl FnOnce() -> libc::pid_t) {
        let parent = ProcessIdentity::current();
        assert!(parent.is_current());
        let pid = fork();
        if pid == 0 {
            let own = ProcessIdentity::current();
            if !parent.is_current() && own.is_current() && own != parent {
                report_success();
            }
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(1) };
        }
        let mut status = 0;
        // SAFETY: the pointer is to a live integer.
        let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!((reaped, status), (pid, libc::SIGKILL));
        assert!(parent.is_current());
    }

    /// Ends the process by a signal. At an exit, valgrind would report leaks of the threads that
    /// are not in the child.
    fn report_success() {
        // SAFETY: no pointers.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }

    #[test]
    fn a_child_of_fork_has_another_identity() {
        // SAFETY: the child only makes system calls.
        check_forked_child(|| unsafe { libc::fork() });
    }

    #[test]
    fn a_child_of_the_plain_clone_call_has_another_identity() {
        // SAFETY: the child only makes system calls. All arguments except the signal are null.
        check_forked_child(|| unsafe {
            libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t
        });
    }

    /// Runs in a child, because a process cannot return from the fallback to the page.
    #[test]
    fn without_wipe_on_fork_a_forked_child_has_another_identity() {
        check_forked_child(|| {
            // SAFETY: the child only makes system calls, except for the registration of the
            // handler, which takes a lock that no thread holds here.
            let pid = unsafe { libc::fork() };
            if pid != 0 {
                return pid;
            }
            LOCATION.store(ptr::null_mut(), Ordering::Release);
            set_location(&LOCATION, FALLBACK_LOCATION);
            check_forked_child(|| {
                // SAFETY: the child only makes system calls.
                let pid = unsafe { libc::fork() };
                assert!(
                    pid != 0 || FALLBACK.load(Ordering::Relaxed) == 0,
                    "the handler ran"
                );
                pid
            });
            // SAFETY: the child only makes system calls. All arguments except the signal are null.
            check_forked_child(|| unsafe {
                libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t
            });
            report_success();
            0
        });
    }
}
