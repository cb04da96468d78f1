//! The watches in flight: one slot each, freed only when the kernel has said its last
//! word about it.

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
    /// The poll said that the process was reaped, too.
    pub(super) reaped: bool,
}

/// What holds the identity of the process.
pub(super) enum PidIdentity {
    /// A slot of the file table.
    Table(u32),
    /// The inode number of its pidfds.
    Inode(u64),
    /// A descriptor.
    Pidfd(OwnedFd),
    /// Its pid, because the process is ours to reap; and the inode number of its pidfds, if it has one, for
    /// the case that something else reaps it.
    Owned(Option<u64>),
}

/// Who has the next word about a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The kernel: the process has not ended.
    Armed,
    /// We: the process has ended, and a descriptor of it is needed for the status, for which it
    /// stands in line or was asked of the kernel.
    NeedsStatus,
    /// The clock: it is armed again after a while.
    Retrying,
}

impl Slot {
    /// The inode number of the process's pidfds, if that was taken down.
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

    /// Takes a watch in. Its record learns the token of its poll.
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

    /// The key of the slot that a token means, if the slot still has that tenant.
    pub(super) fn find(&self, token: Token) -> Option<u32> {
        let slot = self.slab.get(token.key as usize)?;
        (slot.generation == token.generation).then_some(token.key)
    }

    pub(super) fn get(&mut self, key: u32) -> &mut Slot {
        &mut self.slab[key as usize]
    }

    /// Whether the watch was given up.
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

    /// Gives back memory that a storm took, as far as no slot behind it is in use. That takes a walk through all
    /// slots, so it is tried again only when half of those in use are free.
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
