//! What each process has for itself: an identity, by which a forked child is told from its parent, and statics, so that a
//! forked child does not find a lock locked by a thread that was not copied.
//!
//! The pid does not do as an identity: in a new pid namespace the child of a process with pid 1 has pid 1 too. The identity is
//! in a page that the kernel gives to a forked child zeroed (`MADV_WIPEONFORK`, Linux 4.14, kernel commit d2cd9ede6e19),
//! however it was forked: `fork(3)`, or the bare system call. Reading it is a load, where `getpid(2)` is a system call.
//!
//! A child that shares the memory (`vfork(2)`, `clone(2)` with `CLONE_VM`) shares the page as well. Ours
//! ([`vfork`](crate::spawn::vfork::vfork)) says so in a variable of its thread; others may do nothing but exec or end anyway.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::num::NonZeroU64;
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// The process that this memory belonged to when [`ProcessIdentity::current`] was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessIdentity(NonZeroU64);

/// Where the identity is: at the start of a page that is wiped, or in `KEPT`. Null before it is first asked for.
static PLACE: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());
/// For where no page is wiped: set back by a handler that the C library's `fork` calls, and compared with the pid.
static KEPT: AtomicU64 = AtomicU64::new(0);
/// The number of the next identity. A child goes on counting where its parent was when it forked, so no identity that it
/// has a copy of comes again.
static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// This thread's memory is used by a child that shares it, while the thread itself is suspended.
    static SHARED_WITH_CHILD: Cell<bool> = const { Cell::new(false) };
}

impl ProcessIdentity {
    /// The process that asks. Async-signal-safe once it was asked before the fork.
    pub(crate) fn current() -> Self {
        let mut place = PLACE.load(Ordering::Acquire);
        if place.is_null() {
            place = set_up(&PLACE, wiped_page().unwrap_or(KEPT_PLACE));
        }
        // SAFETY: the place is the static or a mapping that is never undone.
        let word = unsafe { &*place };
        let found = word.load(Ordering::Relaxed);
        match NonZeroU64::new(found) {
            Some(identity) if place != KEPT_PLACE || names_this_pid(found) => Self(identity),
            _ => Self::begin(word, found),
        }
    }

    /// Whether this is the process that asks. It is not in a child made by [`vfork`](crate::spawn::vfork::vfork).
    pub(crate) fn is_current(self) -> bool {
        self == Self::current() && !SHARED_WITH_CHILD.get()
    }

    /// The first look in this process.
    #[cold]
    fn begin(word: &AtomicU64, before: u64) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let new = number << 32 | u64::from(process::id());
        let identity =
            match word.compare_exchange(before, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => new,
                // Another thread was first.
                Err(other) => other,
            };
        Self(
            NonZeroU64::new(identity)
                .expect("only a fork sets it back, and this thread would not be in the child"),
        )
    }
}

/// Of the page, whatever the size of one is: the kernel rounds up.
const BYTES: usize = size_of::<AtomicU64>();
const KEPT_PLACE: *mut AtomicU64 = (&raw const KEPT).cast_mut();

/// Says for this thread whether a child uses its memory in its place.
pub(crate) fn share_with_child(shared: bool) {
    SHARED_WITH_CHILD.set(shared);
}

fn names_this_pid(identity: u64) -> bool {
    identity as u32 == process::id()
}

/// Makes the place known, unless another thread was first.
#[cold]
fn set_up(known: &AtomicPtr<AtomicU64>, place: *mut AtomicU64) -> *mut AtomicU64 {
    if place == KEPT_PLACE {
        // SAFETY: the handler is async-signal-safe. If it cannot be registered, there is still the pid.
        unsafe { libc::pthread_atfork(None, None, Some(set_back)) };
    }
    match known.compare_exchange(ptr::null_mut(), place, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => place,
        Err(other) => {
            if place != KEPT_PLACE {
                // SAFETY: mapped for this call, and nobody else knows it.
                let _ = unsafe { munmap(place.cast(), BYTES) };
            }
            other
        }
    }
}

unsafe extern "C" fn set_back() {
    KEPT.store(0, Ordering::Relaxed);
}

/// A page of zeroes that is zeroes again in each forked child. `None` if there is none to be had.
fn wiped_page() -> Option<*mut AtomicU64> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping of its own, at no given address.
    let page =
        unsafe { mmap_anonymous(ptr::null_mut(), BYTES, protection, MapFlags::PRIVATE) }.ok()?;
    // Emulators take any advice, and follow none: one that takes what means nothing is not to be believed.
    // SAFETY: the page was just mapped; nobody else knows it.
    let wiped = unsafe {
        libc::madvise(page, BYTES, -1) != 0
            && libc::madvise(page, BYTES, libc::MADV_WIPEONFORK) == 0
    };
    if !wiped {
        // SAFETY: as above.
        let _ = unsafe { munmap(page, BYTES) };
        return None;
    }
    Some(page.cast())
}

/// Made when it is first asked for, and never freed.
pub(crate) struct PerProcess<T: 'static>(AtomicPtr<Owned<T>>);

struct Owned<T> {
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
            // SAFETY: null, or made below, and what was made known is never freed.
            if let Some(owned) = unsafe { found.as_ref() }
                && owned.process == process
            {
                return &owned.value;
            }
            let value = T::default();
            let made = Box::into_raw(Box::new(Owned { process, value }));
            // What the parent's was stays as it is: its threads are not here to unlock it.
            match self
                .0
                .compare_exchange(found, made, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => found = made,
                Err(other) => {
                    // SAFETY: made above, and nobody else knows it.
                    drop(unsafe { Box::from_raw(made) });
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
    fn all_threads_that_ask_first_get_the_same() {
        static COUNT: PerProcess<Mutex<usize>> = PerProcess::new();
        let all = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    all.wait();
                    *COUNT.get().lock().expect("nobody panics") += 1;
                });
            }
        });
        assert_eq!(*COUNT.get().lock().expect("nobody panics"), 8);
    }

    /// What a forked child finds: the parent's identity is not its own, and it has one that stays.
    fn forked_child_knows_itself(fork: impl FnOnce() -> libc::pid_t) {
        let parent = ProcessIdentity::current();
        assert!(parent.is_current());
        let pid = fork();
        if pid == 0 {
            let own = ProcessIdentity::current();
            if !parent.is_current() && own.is_current() && own != parent {
                end_well();
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

    /// By a signal: before an exit valgrind looks for what the threads have lost that are not in the child.
    fn end_well() {
        // SAFETY: no pointers.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }

    #[test]
    fn a_forked_child_is_told_from_its_parent() {
        // SAFETY: the child makes system calls only.
        forked_child_knows_itself(|| unsafe { libc::fork() });
    }

    #[test]
    fn a_child_forked_behind_the_c_librarys_back_is_told_from_its_parent() {
        // SAFETY: as above; all arguments but the signal are null.
        forked_child_knows_itself(|| unsafe {
            libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t
        });
    }

    /// In a child, which alone goes on without the page.
    #[test]
    fn where_no_page_is_wiped_a_forked_child_is_told_from_its_parent() {
        forked_child_knows_itself(|| {
            // SAFETY: the child makes system calls only, but for what registers the handler, which takes a lock that no
            // thread here holds.
            let pid = unsafe { libc::fork() };
            if pid != 0 {
                return pid;
            }
            PLACE.store(ptr::null_mut(), Ordering::Release);
            set_up(&PLACE, KEPT_PLACE);
            forked_child_knows_itself(|| {
                // SAFETY: as above.
                let pid = unsafe { libc::fork() };
                assert!(
                    pid != 0 || KEPT.load(Ordering::Relaxed) == 0,
                    "the handler ran"
                );
                pid
            });
            // SAFETY: as above.
            forked_child_knows_itself(|| unsafe {
                libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t
            });
            end_well();
            0
        });
    }
}
