//! Cgroups: the groups of children, their limits, and what is refused.
//!
//! Each test has a cgroup of its own, below that of this process. Where none can be made, or where
//! controllers are missing, a test prints that it was not tested.

mod common;

#[path = "cgroups/abandoned.rs"]
mod abandoned;
#[path = "cgroups/children.rs"]
mod children;
#[path = "cgroups/containment.rs"]
mod containment;
#[path = "cgroups/errors.rs"]
mod errors;
#[path = "cgroups/limits.rs"]
mod limits;
#[path = "cgroups/namespaces.rs"]
mod namespaces;
#[path = "cgroups/reuse.rs"]
mod reuse;
#[path = "cgroups/test_group.rs"]
mod test_group;
#[path = "cgroups/users.rs"]
mod users;
