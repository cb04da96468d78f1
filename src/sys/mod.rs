//! The system calls that no safe crate offers in the form that this crate needs.
//!
//! Each function makes one call, or a few that belong together, and returns what the kernel
//! reports. No function takes a lock of another module. All modules of the crate may call these
//! functions.
//!
//! - [`wait`]: `waitid(2)`, and the action of `SIGCHLD`.
//! - [`pidfd`]: opening pidfds, and what the kernel knows about the process behind one.
//! - [`kill`](mod@kill): signals to processes and process groups.
//! - [`mask`]: the signal mask of a thread.
//! - [`descriptor`]: descriptors, and the limit on them.
//! - [`fork`](mod@fork): `fork(2)`.

#![allow(unsafe_code, reason = "raw system calls")]

mod descriptor;
mod fork;
mod kill;
mod mask;
mod pidfd;
mod wait;

pub(crate) use self::descriptor::{
    close_in_child, descriptor_limit, duplicate, inode, open_eventfd, signal_eventfd,
    with_raised_descriptor_limit,
};
pub(crate) use self::fork::fork;
pub(crate) use self::kill::{
    group_exists, is_pid_in_use, kill, kill_and_reap, kill_group, kill_group_by_number,
    kill_group_by_pidfd, leads_group, reap_ending, set_subreaper,
};
pub(crate) use self::mask::SignalMask;
pub(crate) use self::pidfd::{
    is_thread_pidfd, pidfd_exit, pidfd_open, pidfd_pid, pidfd_reaped, pidfs_inode,
};
pub(crate) use self::wait::{
    GroupResult, WaitResult, WaitTarget, peek_group, sigchld_ignored, wait_for_child, waitid,
    waitid_with,
};
