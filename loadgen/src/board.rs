//! What the children and we write on: memory that all share.
//!
//! For each child a slot with its planned and its real moment of exit, and what became of it; in front
//! gates that children sleep on. None of it is copied by a fork, however big it is.

use std::fmt;
use std::mem;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::bare;

/// What is known of one child. Zero: not yet.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Slot {
    /// When it is to exit; 0: at once.
    pub(crate) due_ns: AtomicU64,
    /// When it did: its last instruction but one, written by itself.
    pub(crate) stamp_ns: AtomicU64,
    /// Its own number, written by itself.
    pub(crate) pid: AtomicI32,
    /// How often its exit was delivered.
    pub(crate) delivered: AtomicU32,
    /// When the contestant's callback began, and when the contestant knew how the child had ended.
    pub(crate) begun_ns: AtomicU64,
    pub(crate) known_ns: AtomicU64,
    /// When the watcher saw the exit, and when it queued it, if it says so.
    pub(crate) seen_ns: AtomicU64,
    pub(crate) queued_ns: AtomicU64,
}

/// The planned moment of what is another program and writes nothing here; it exits with 0.
pub(crate) const EXECED: u64 = u64::MAX;

/// What a child waits for before it looks at its planned moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Gate {
    /// For those that exit while it is measured.
    Exits,
    /// For those that are only there.
    Live,
    /// For those that do not wait.
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
    /// Zero: closed. Each is a futex.
    gates: [AtomicU32; 2],
    /// Children that have reached their gate.
    parked: AtomicU64,
}

pub(crate) struct Board {
    memory: NonNull<Header>,
    slots: usize,
    /// By which other programs can map it.
    file: OwnedFd,
}

impl Board {
    pub(crate) fn new(slots: usize) -> Result<Self> {
        let file = memfd_create("loadgen-board", MemfdFlags::CLOEXEC)
            .context("creating memory to share with the children")?;
        ftruncate(&file, Self::length(slots) as u64).context("sizing the shared memory")?;
        Self::map(file)
    }

    /// Maps what [`new`](Self::new) made, there or in another process.
    pub(crate) fn map(file: OwnedFd) -> Result<Self> {
        let length = fstat(&file).context("sizing up the shared memory")?.st_size as usize;
        let slots = length.checked_sub(mem::size_of::<Header>());
        let slots = slots.context("no shared memory of ours")? / mem::size_of::<Slot>();
        ensure!(length == Self::length(slots), "no shared memory of ours");
        // SAFETY: a new mapping of its own, at no given address.
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
        // SAFETY: the mapping is aligned to a page, zeroed when it was made, as long as we say, and lives as
        // long as we; it is only ever touched through atomics.
        unsafe { self.memory.as_ref() }
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        // SAFETY: as above; the mapping has room for this many behind the header, whose size is a
        // multiple of their alignment.
        unsafe { slice::from_raw_parts(self.memory.as_ptr().add(1).cast(), self.slots) }
    }

    /// How many children have come to a gate.
    pub(crate) fn parked(&self) -> u64 {
        self.header().parked.load(Ordering::Acquire)
    }

    /// All of it that a child needs.
    pub(crate) fn seat(&self, index: usize, gate: Gate) -> Seat<'_> {
        let (header, slot) = (self.header(), &self.slots()[index]);
        Seat {
            slot,
            parked: &header.parked,
            gate: self.gate(gate),
            memory: [span(header), span(slot)],
        }
    }

    /// Lets all go that wait there, and all that will come.
    pub(crate) fn open(&self, gate: Gate) {
        let Some(word) = self.gate(gate) else { return };
        word.store(1, Ordering::SeqCst);
        // SAFETY: as above.
        unsafe {
            libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX);
        }
    }

    /// For children that are still to come; none waits there.
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

/// A child's place at the board: it holds all that the child touches, the board's struct not.
pub(crate) struct Seat<'a> {
    pub(crate) slot: &'a Slot,
    parked: &'a AtomicU64,
    gate: Option<&'a AtomicU32>,
    /// Where in memory that is, from and to: two pages, or one.
    pub(crate) memory: [(usize, usize); 2],
}

impl Seat<'_> {
    /// The child waits for its gate to open.
    pub(crate) fn wait(&self) {
        let Some(gate) = self.gate else { return };
        self.parked.fetch_add(1, Ordering::AcqRel);
        while gate.load(Ordering::SeqCst) == 0 {
            bare::wait_while_zero(gate);
        }
    }
}

// SAFETY: all access is through atomics.
unsafe impl Send for Board {}
// SAFETY: all access is through atomics.
unsafe impl Sync for Board {}

impl Drop for Board {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`; no reference into it outlives us.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), Self::length(self.slots)) };
    }
}
