//! Memory that the measuring process shares with all children.
//!
//! The table starts with the gates at which children wait. A slot for each child follows, with the
//! planned and the actual time of its exit and the time of its delivery. A fork copies none of the
//! table, whatever its size.

use std::fmt;
use std::mem;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use exitring::Pid;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::raw_syscall;

/// The record of one child. A value of 0 is not known yet.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Slot {
    /// When the child is to exit; 0: at once.
    pub(crate) due_ns: AtomicU64,
    /// When the child exited. The child writes it just before its last system call.
    pub(crate) stamp_ns: AtomicU64,
    /// The child's pid, written by the child. For a child that executes another program see
    /// [`confirm_pid`](Self::confirm_pid).
    pub(crate) pid: AtomicI32,
    /// The number of times that the exit was delivered.
    pub(crate) delivered: AtomicU32,
    /// When the callback of the contestant started, and when the contestant knew the status.
    pub(crate) begun_ns: AtomicU64,
    pub(crate) known_ns: AtomicU64,
    /// When the watcher saw the exit, and when it queued it, if it reports that.
    pub(crate) seen_ns: AtomicU64,
    pub(crate) queued_ns: AtomicU64,
    /// When the contestant was called to start the child, if the child executes another program.
    pub(crate) called_ns: AtomicU64,
}

impl Slot {
    /// Prepares the slot for a child that executes another program, and is to exit with `code`. The
    /// child writes nothing here.
    pub(crate) fn prepare_exec(&self, code: u8, called_ns: u64) {
        self.called_ns.store(called_ns, Ordering::Relaxed);
        self.due_ns
            .store(u64::MAX - u64::from(code), Ordering::Release);
    }

    /// Notes the pid of a child that executes another program. Its start and its exit have one each,
    /// and either may be known first. Returns whether it is the one that was noted before, if any.
    pub(crate) fn confirm_pid(&self, pid: Pid) -> bool {
        let before = self.pid.swap(pid.as_raw(), Ordering::AcqRel);
        before == 0 || before == pid.as_raw()
    }

    /// The exit code of a child that executes another program; `None` for other children.
    pub(crate) fn exec_code(&self) -> Option<i32> {
        // These due times are no times.
        let code = u64::MAX - self.due_ns.load(Ordering::Acquire);
        u8::try_from(code).ok().map(i32::from)
    }
}

/// The gate at which a child waits before it reads its due time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Gate {
    /// For children that exit during the measurement.
    Exits,
    /// For children that stay alive during the measurement.
    Live,
    /// For children that do not wait.
    None,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exits => "exits",
            Self::Live => "live",
            Self::None => "none",
        })
    }
}

#[derive(Default)]
#[repr(C)]
struct Header {
    /// Futexes; 0 is closed.
    gates: [AtomicU32; 2],
    /// The number of children that have reached their gate.
    parked: AtomicU64,
}

pub(crate) struct SharedTable {
    memory: NonNull<Header>,
    slots: usize,
    /// The file of the memory, which other programs can map.
    file: OwnedFd,
}

impl SharedTable {
    pub(crate) fn new(slots: usize) -> Result<Self> {
        let file = memfd_create("loadgen-table", MemfdFlags::CLOEXEC)
            .context("creating memory to share with the children")?;
        ftruncate(&file, Self::length(slots) as u64).context("sizing the shared memory")?;
        Self::map(file)
    }

    /// Maps a table that [`new`](Self::new) made, in this or another process.
    pub(crate) fn map(file: OwnedFd) -> Result<Self> {
        let length = fstat(&file)
            .context("reading the size of the shared memory")?
            .st_size as usize;
        let slots = length.checked_sub(mem::size_of::<Header>());
        let slots = slots.context("not a shared table")? / mem::size_of::<Slot>();
        ensure!(length == Self::length(slots), "not a shared table");
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let memory = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        }
        .context("mapping memory to share with the children")?;
        let memory = NonNull::new(memory.cast()).context("a mapping at address 0")?;
        Ok(Self {
            memory,
            slots,
            file,
        })
    }

    fn length(slots: usize) -> usize {
        mem::size_of::<Header>() + slots * mem::size_of::<Slot>()
    }

    pub(crate) fn file(&self) -> impl AsFd {
        &self.file
    }

    fn header(&self) -> &Header {
        // SAFETY: the mapping is aligned to a page, was zeroed when it was made, is as long as a
        // header and the slots, and lives as long as `self`. All accesses are atomic.
        unsafe { self.memory.as_ref() }
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        // SAFETY: as in `header`. The mapping holds this many slots behind the header, whose size
        // is a multiple of their alignment.
        unsafe { slice::from_raw_parts(self.memory.as_ptr().add(1).cast(), self.slots) }
    }

    /// The number of children that have reached their gate.
    pub(crate) fn parked(&self) -> u64 {
        self.header().parked.load(Ordering::Acquire)
    }

    /// The parts of the table that a child needs.
    pub(crate) fn child_slot(&self, index: usize, gate: Gate) -> ChildSlot<'_> {
        let (header, slot) = (self.header(), &self.slots()[index]);
        ChildSlot {
            slot,
            parked: &header.parked,
            gate: self.gate(gate),
            memory: [span(header), span(slot)],
        }
    }

    /// Opens a gate for the children that wait there and for those that will reach it.
    pub(crate) fn open(&self, gate: Gate) {
        let Some(word) = self.gate(gate) else { return };
        word.store(1, Ordering::SeqCst);
        // SAFETY: the address is that of a live word.
        unsafe {
            libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX);
        }
    }

    /// Closes a gate for children that will reach it. No child waits there now.
    pub(crate) fn close(&self, gate: Gate) {
        if let Some(word) = self.gate(gate) {
            word.store(0, Ordering::SeqCst);
        }
    }

    fn gate(&self, gate: Gate) -> Option<&AtomicU32> {
        match gate {
            Gate::Exits => Some(&self.header().gates[0]),
            Gate::Live => Some(&self.header().gates[1]),
            Gate::None => None,
        }
    }
}

fn span<T>(thing: &T) -> (usize, usize) {
    let start = std::ptr::from_ref(thing).addr();
    (start, start + mem::size_of::<T>())
}

/// References to all that a child accesses. [`SharedTable`] itself is not part of it.
pub(crate) struct ChildSlot<'a> {
    pub(crate) slot: &'a Slot,
    parked: &'a AtomicU64,
    gate: Option<&'a AtomicU32>,
    /// The address ranges of the gates and of the slot: two pages, or one.
    pub(crate) memory: [(usize, usize); 2],
}

impl ChildSlot<'_> {
    /// Waits, in the child, until its gate is open.
    pub(crate) fn wait_at_gate(&self) {
        let Some(gate) = self.gate else { return };
        self.parked.fetch_add(1, Ordering::AcqRel);
        while gate.load(Ordering::SeqCst) == 0 {
            raw_syscall::wait_while_zero(gate);
        }
    }
}

// SAFETY: all accesses are atomic.
unsafe impl Send for SharedTable {}
// SAFETY: all accesses are atomic.
unsafe impl Sync for SharedTable {}

impl Drop for SharedTable {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `map`, and no reference into it outlives `self`.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), Self::length(self.slots)) };
    }
}
