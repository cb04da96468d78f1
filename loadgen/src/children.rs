//! Children that stand by, and exit all at once.
//!
//! They share a page with us: a gate that they sleep on (a futex), and for each a place where it
//! writes the time right before it exits.

use std::io;
use std::mem;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use anyhow::{Context, Result};
use exitring::Pid;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// What the children and we share: the gate in front, then a stamp for each.
struct SharedPage {
    memory: NonNull<AtomicU64>,
    stamps: usize,
}

impl SharedPage {
    fn new(stamps: usize) -> Result<Self> {
        let length = (stamps + 1) * mem::size_of::<AtomicU64>();
        // SAFETY: a new mapping of its own, at no given address.
        let memory = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )
        }
        .context("mapping a page to share with the children")?;
        let memory = NonNull::new(memory.cast()).context("a mapping at address 0")?;
        Ok(Self { memory, stamps })
    }

    /// Zero: closed.
    fn gate(&self) -> &AtomicU32 {
        // SAFETY: the mapping is aligned, zeroed, and lives as long as we; it is
        // only ever touched through atomics.
        unsafe { self.memory.cast::<AtomicU32>().as_ref() }
    }

    fn stamps(&self) -> &[AtomicU64] {
        // SAFETY: as above; the mapping has room for this many behind the gate.
        unsafe { slice::from_raw_parts(self.memory.as_ptr().add(1), self.stamps) }
    }
}

// SAFETY: all access is through atomics.
unsafe impl Send for SharedPage {}
// SAFETY: all access is through atomics.
unsafe impl Sync for SharedPage {}

impl Drop for SharedPage {
    fn drop(&mut self) {
        let length = (self.stamps + 1) * mem::size_of::<AtomicU64>();
        // SAFETY: the mapping made in `new`; no reference into it outlives us.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), length) };
    }
}

/// Forked children that wait at the gate. Those not reaped by then are killed and reaped
/// when this is dropped.
pub(crate) struct Children {
    page: SharedPage,
    pids: Vec<Pid>,
}

impl Children {
    /// Forks `count` children; `progress` hears of each.
    pub(crate) fn fork(count: u32, mut progress: impl FnMut()) -> Result<Self> {
        let mut children = Self {
            page: SharedPage::new(count as usize)?,
            pids: Vec::with_capacity(count as usize),
        };
        for index in 0..count as usize {
            // SAFETY: the child calls nothing but async-signal-safe system calls.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                stand_by(&children.page, index);
            }
            if pid < 0 {
                let error = io::Error::last_os_error();
                return Err(error)
                    .with_context(|| format!("forking child {} of {count}", index + 1));
            }
            children.pids.push(Pid::new(pid)?);
            progress();
        }
        Ok(children)
    }

    pub(crate) fn pids(&self) -> &[Pid] {
        &self.pids
    }

    /// The code that a child exits with.
    pub(crate) fn code(index: usize) -> i32 {
        (index % 256) as i32
    }

    /// Opens the gate.
    pub(crate) fn release(&self) {
        self.page.gate().store(1, Ordering::SeqCst);
        // SAFETY: the address is that of the live gate; the call only reads it.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.page.gate().as_ptr(),
                libc::FUTEX_WAKE,
                i32::MAX,
            );
        }
    }

    /// When a child exited, by [`now_ns`]; 0 if it has not.
    pub(crate) fn stamp_ns(&self, index: usize) -> u64 {
        self.page.stamps()[index].load(Ordering::Acquire)
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for pid in &self.pids {
            // SAFETY: no pointers but null. What was reaped is no child of ours any more, and
            // a pid that is another process's now is not either, unless we forked
            // again: nobody does while these live.
            unsafe {
                if libc::waitpid(pid.as_raw(), std::ptr::null_mut(), libc::WNOHANG) == 0 {
                    libc::kill(pid.as_raw(), libc::SIGKILL);
                    libc::waitpid(pid.as_raw(), std::ptr::null_mut(), 0);
                }
            }
        }
    }
}

/// What a child does with its life.
fn stand_by(page: &SharedPage, index: usize) -> ! {
    // SAFETY: system calls only, on the live gate.
    unsafe {
        // Children of a load generator that was killed have no business here.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        while page.gate().load(Ordering::SeqCst) == 0 {
            libc::syscall(
                libc::SYS_futex,
                page.gate().as_ptr(),
                libc::FUTEX_WAIT,
                0,
                std::ptr::null::<libc::timespec>(),
            );
        }
        page.stamps()[index].store(now_ns(), Ordering::Release);
        libc::_exit(Children::code(index))
    }
}

/// `CLOCK_MONOTONIC`, the same in every process.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
