//! Control groups, version 2: a group for each child, its limits, its leftover processes.
//!
//! A child that starts in a cgroup of its own is contained with all its descendants: whatever they
//! fork, whichever session or process group they enter, they stay in the group. So the leftover
//! processes of a child can be found and killed after its exit, and a limit applies to all of them
//! together. (A process may still move itself to another group if it has the permission to write
//! there. A group contains programs, it does not confine an attacker with the same user id.)
//!
//! - [`group`] finds a delegated cgroup of the machine: [`Cgroup`].
//! - [`location`] parses `/proc/self/cgroup` and `/proc/self/mountinfo` for it.
//! - [`limits`] holds [`CgroupLimits`], and how they are written.
//! - [`pool`] makes and reuses the groups of children: [`CgroupPool`].
//! - [`pool_dir`] makes the directory of a pool, and removes those of programs that have died.
//! - [`leaf`] is the group of one child: [`CgroupLeaf`].
//! - [`report`] says what is left of a child in its leaf: [`CgroupReport`].
//! - [`kill`](mod@kill) kills all processes of a leaf.
//! - [`tree`] lists and removes the groups that a child made inside its leaf.
//! - [`files`] reads and writes the files of a cgroup.
//! - [`error`] holds [`CgroupError`].
//!
//! # Structure
//!
//! ```text
//! GROUP                      found or given; delegated to this program
//! ├── exitring-supervisor    if the program has called `Cgroup::enter_leaf`
//! └── exitring-PID-N         one for each pool; locked by its process; holds no process
//!     ├── 0                  a leaf: the group of one child at a time
//!     └── 1
//! ```
//!
//! # Kernel versions
//!
//! What this module uses, with the first version of Linux (`cgroups(7)`,
//! `Documentation/admin-guide/cgroup-v2.rst` of Linux 6.12, and the kernel's history):
//!
//! | what | Linux | without it |
//! |---|---|---|
//! | `cgroup.procs`, `cgroup.events`, controllers memory and pids | 4.5 | |
//! | controller cpu | 4.15 | [`CgroupError::NoController`] |
//! | `cgroup.freeze` | 5.2 | children that fork may escape the fallback of `cgroup.kill` |
//! | `CLONE_INTO_CGROUP` | 5.7 | the child is moved by a write to `cgroup.procs` |
//! | `cgroup.kill` | 5.14 | freeze, signal each process, unfreeze |
//! | `memory.peak` | 5.19 | no peak memory is reported |
//!
//! This module uses `types`, `error`, `sys`, and the identity of a process in `sync`. Spawning and
//! the records of children use it.

mod error;
mod files;
mod group;
mod kill;
mod leaf;
mod limits;
mod location;
mod pool;
mod pool_dir;
mod report;
mod tree;

pub use error::CgroupError;
pub use group::Cgroup;
pub use leaf::CgroupLeaf;
pub use limits::CgroupLimits;
pub use pool::CgroupPool;
pub use report::CgroupReport;

#[cfg(test)]
mod tests;
