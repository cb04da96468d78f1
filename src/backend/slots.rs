//! The active watches of a backend, one slot each.
//!
//! A slot is freed only when no queue of the backend and no request in the kernel refers to its
//! key; an abandoned poll is the exception, because its token's generation no longer matches.

use std::os::fd::OwnedFd;

use slab::Slab;

use super::token::{Kind, Token};
use crate::record::delivery_guard::DeliveryGuard;
use crate::sync::shrink::is_sparse;

/// How many slots are added at least.
const GROWTH_MIN: usize = 64;

pub(super) struct Slots {
    slab: Slab<Slot>,
    generation: u32,
    /// How many slots are [`Stage::Armed`].
    armed: usize,
    shrink_below: usize,
}

/// The generation of the watch is in the token that its record has.
pub(super) struct Slot {
    pub(super) guard: DeliveryGuard,
    pub(super) identity: PidIdentity,
    stage: Stage,
    /// The poll reported that the process was reaped as well.
    pub(super) reaped: bool,
}

/// What keeps the identity of the process.
pub(super) enum PidIdentity {
    /// A slot of the file table.
    Table(u32),
    /// The inode number of its pidfds.
    Inode(Inode),
    /// An open pidfd.
    Pidfd(OwnedFd),
    /// The pid, because the process is ours to reap; and the inode number of its pidfds, if known,
    /// to detect that something else reaped it.
    Owned(Option<Inode>),
}

/// The inode number of a pidfd. In two halves, because a `u64` is aligned to eight bytes, and would
/// make every slot larger.
#[derive(Clone, Copy)]
pub(super) struct Inode {
    high: u32,
    low: u32,
}

impl Inode {
    pub(super) fn new(number: u64) -> Self {
        Self {
            high: (number >> 32) as u32,
            low: number as u32,
        }
    }

    pub(super) fn number(self) -> u64 {
        u64::from(self.high) << 32 | u64::from(self.low)
    }
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
            PidIdentity::Inode(inode) => Some(inode.number()),
            PidIdentity::Owned(inode) => inode.map(Inode::number),
            PidIdentity::Table(_) | PidIdentity::Pidfd(_) => None,
        }
    }

    /// The token of the watch's poll, which identifies the watch in this slot.
    fn token(&self) -> Token {
        let token = Token::unpack(self.guard.record().token());
        token.expect("set when the slot was taken")
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
        self.make_room();
        let entry = self.slab.vacant_entry();
        // Fits: the builder allows fewer watches than there are keys.
        let key = entry.key() as u32;
        guard.record().set_token(poll_token(key, self.generation));
        entry.insert(Slot {
            guard,
            identity,
            stage,
            reaped: false,
        });
        self.armed += usize::from(stage == Stage::Armed);
        key
    }

    /// Makes room for one more watch. The default growth is by a factor of two, which may leave
    /// almost half of the memory unused.
    fn make_room(&mut self) {
        let capacity = self.slab.capacity();
        if self.slab.len() == capacity {
            self.slab.reserve_exact((capacity / 8).max(GROWTH_MIN));
        }
    }

    /// The key of a token's slot, if the slot still belongs to the same watch.
    pub(super) fn find(&self, token: Token) -> Option<u32> {
        let slot = self.slab.get(token.key as usize)?;
        (slot.token().generation == token.generation).then_some(token.key)
    }

    /// Starts to load the record of a slot.
    pub(super) fn prefetch(&self, key: u32) {
        if let Some(slot) = self.slab.get(key as usize) {
            slot.guard.prefetch();
        }
    }

    pub(super) fn get(&mut self, key: u32) -> &mut Slot {
        &mut self.slab[key as usize]
    }

    /// Whether the watch was abandoned.
    pub(super) fn is_abandoned(&self, key: u32) -> bool {
        self.slab[key as usize].guard.record().is_abandoned()
    }

    pub(super) fn token(&self, key: u32, kind: Kind) -> Token {
        let poll = self.slab[key as usize].token();
        Token { kind, ..poll }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_small() {
        assert!(size_of::<Slot>() <= 24, "{}", size_of::<Slot>());
        // The list of free slots needs no tag of its own.
        assert_eq!(size_of::<Option<Slot>>(), size_of::<Slot>());
    }

    #[test]
    fn an_inode_number_converts_back() {
        for number in [0, 1, u64::from(u32::MAX), 1 << 32, u64::MAX - 1, u64::MAX] {
            assert_eq!(Inode::new(number).number(), number);
        }
    }
}
