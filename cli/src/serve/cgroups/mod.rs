//! The cgroups of children that were started with `cgroup`.
//!
//! Each such child has a leaf of its own, with all its descendants. The pools of the library make
//! the leaves. A leaf is stored with its watch, by path and inode number, so that a service that was
//! started again finds it, can kill what is in it, and reads what it has counted.
//!
//! - `pools.rs`: a pool for each set of limits. `slots.rs`: how many pools each user may have.
//! - `leaf.rs`: the leaf of one child. `leaf_id.rs`: its identity. `report.rs`: what it has counted.
//! - `previous.rs`: the leaves of the previous service.
//! - `refusal.rs`: errors of the library, as clients get them.
//!
//! `watches/` and all above call this module. It calls no other.

mod leaf;
mod leaf_id;
mod pools;
mod previous;
mod refusal;
mod report;
mod slots;

pub(crate) use self::leaf::Leaf;
pub(crate) use self::leaf_id::LeafId;
pub(crate) use self::pools::{CgroupOption, Pools};
pub(crate) use self::previous::PreviousPools;
