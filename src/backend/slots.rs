//! The active watches of a backend, one slot each.
//!
//! A slot is freed only when no queue of the backend and no request in the kernel refers to its
//! key; an abandoned poll is the exception, because its token's generation no longer matches.

use std::os::fd::OwnedFd;

use slab::Slab;

use super::token::{Kind, Token};
use crate::record::delivery_guard::DeliveryGuard;
use crate::sync::shrink::is_sparse;

pub(super) struct Slots {
    slab: Slab<Slot>,
    generation: u32,
    /// How many slots are [`Stage::Armed`].
    armed: usize,
    shrink_below: usize,
}

pub(super) struct Slot {
    pub(super) guard: DeliveryGuard,
    pub(super) identity: PidIdentity,
    stage: Stage,
    generation: u32,
    /// The poll reported that the process was reaped as well.
    pub(super) reaped: bool,
}

/// What keeps the identity of the process.
pub(super) enum PidIdentity {
    /// A slot of the file table.
    Table(u32),
    /// The inode number of its pidfds.
    Inode(u64),
    /// An open pidfd.
    Pidfd(OwnedFd),
    /// The pid, because the process is ours to reap; and the inode number of its pidfds, if known,
    /// to detect that something else reaped it.
    Owned(Option<u64>),
}

/// What a watch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The kernel: the process has not ended.
    Armed,
    /// A status: the process has ended, and the watch is queued for a descriptor or has requested
    /// one.
    NeedsStatus,
    /// The clock: the watch is in the retry queue.
    Retrying,
    /// The epoll of new pidfds: the watch is not armed in the ring yet.
    New,
}

impl Slot {
    /// The inode number of the process's pidfds, if it was recorded.
    pub(super) fn inode(&self) -> Option<u64> {
        match self.identity {
            PidIdentity::Inode(inode) => Some(inode),
            PidIdentity::Owned(inode) => inode,
            PidIdentity::Table(_) | PidIdentity::Pidfd(_) => None,
        }
    }
}

impl Slots {
    pub(super) fn new() -> Self {
        Self {
            slab: Slab::new(),
            generation: 0,
            armed: 0,
            shrink_below: usize::MAX,
        }
    }

    /// Adds a watch, and stores the token of its poll in its record.
    pub(super) fn insert(
        &mut self,
        guard: DeliveryGuard,
        identity: PidIdentity,
        stage: Stage,
    ) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.slab.vacant_entry();
        // Fits: the builder allows fewer watches than there are keys.
        let key = entry.key() as u32;
        guard.record().set_token(poll_token(key, self.generation));
        entry.insert(Slot {
            guard,
            identity,
            stage,
            generation: self.generation,
            reaped: false,
        });
        self.armed += usize::from(stage == Stage::Armed);
        key
    }

    /// The key of a token's slot, if the slot still belongs to the same watch.
    pub(super) fn find(&self, token: Token) -> Option<u32> {
        let slot = self.slab.get(token.key as usize)?;
        (slot.generation == token.generation).then_some(token.key)
    }

    pub(super) fn get(&mut self, key: u32) -> &mut Slot {
        &mut self.slab[key as usize]
    }

    /// Whether the watch was abandoned.
    pub(super) fn is_abandoned(&self, key: u32) -> bool {
        self.slab[key as usize].guard.record().is_abandoned()
    }

    pub(super) fn token(&self, key: u32, kind: Kind) -> Token {
        let generation = self.slab[key as usize].generation;
        Token {
            kind,
            key,
            generation,
        }
    }

    pub(super) fn stage(&self, key: u32) -> Stage {
        self.slab[key as usize].stage
    }

    pub(super) fn set_stage(&mut self, key: u32, stage: Stage) {
        let slot = &mut self.slab[key as usize];
        self.armed -= usize::from(slot.stage == Stage::Armed);
        self.armed += usize::from(stage == Stage::Armed);
        slot.stage = stage;
    }

    /// Frees the slot.
    pub(super) fn remove(&mut self, key: u32) -> (DeliveryGuard, PidIdentity) {
        let slot = self.slab.remove(key as usize);
        self.armed -= usize::from(slot.stage == Stage::Armed);
        (slot.guard, slot.identity)
    }

    pub(super) fn armed(&self) -> usize {
        self.armed
    }

    /// Returns memory that a burst needed, as far as no slot behind it is in use. That walks all
    /// slots, so the next try is only when half of those now in use are free.
    pub(super) fn shrink(&mut self) {
        let (len, capacity) = (self.slab.len(), self.slab.capacity());
        if !is_sparse(len, capacity) {
            self.shrink_below = usize::MAX;
        } else if len < self.shrink_below {
            self.shrink_below = len / 2;
            self.slab.shrink_to_fit();
        }
    }
}

fn poll_token(key: u32, generation: u32) -> u64 {
    Token {
        kind: Kind::Poll,
        key,
        generation,
    }
    .pack()
}
