//! Opens a ring with the features that this kernel supports, found by trying.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use io_uring::{IoUring, Probe, opcode};

use super::file_table::FileTable;
use crate::error::{BuildError, NoDescriptors, SystemError};
use crate::faults;
use crate::sys::{self, WaitTarget};
use crate::types::pid::Pid;

/// The most requests that one enter can submit. More requests take several enters.
const SQ_ENTRIES: u32 = 256;
/// The capacity for completions. The kernel keeps more (`IORING_FEAT_NODROP`), at some cost.
const CQ_ENTRIES: u32 = 4096;
/// The most slots of the file table. Watches beyond it are identified in another way. A slot costs
/// the kernel 8 bytes and this program 4.
const TABLE_MAX: u64 = 32_768;

/// Optional features of a ring.
#[derive(Clone, Copy)]
pub(super) struct Features {
    /// A wait for many completions can become a wait for one after a time (Linux 6.12).
    pub(super) min_wait: bool,
    /// A wait need not count as iowait (Linux 6.15).
    pub(super) no_iowait: bool,
    /// A successful request can omit its completion (Linux 5.17).
    pub(super) skip_success: bool,
    /// The inode number of a pidfd is never reused (Linux 6.9).
    pub(super) pidfs: bool,
}

/// Opens a ring. Only the calling thread may use it.
pub(super) fn open() -> Result<(IoUring, FileTable, Features), BuildError> {
    let ring = open_ring()?;
    let params = ring.params();
    let (min_wait, no_iowait, skip_success) = (
        params.is_feature_min_timeout(),
        params.is_feature_no_iowait(),
        params.is_feature_skip_cqe_on_success(),
    );
    for (has, missing) in [
        (params.is_feature_nodrop(), "IORING_FEAT_NODROP (Linux 5.5)"),
        (
            params.is_feature_ext_arg(),
            "IORING_FEAT_EXT_ARG (Linux 5.11)",
        ),
    ] {
        if !has {
            return Err(BuildError::IoUringTooOld { missing });
        }
    }

    let pidfd = own_pidfd()?;
    let features = Features {
        min_wait,
        no_iowait,
        skip_success,
        pidfs: sys::pidfs_inode(pidfd.as_fd()).is_some(),
    };

    // Kernels before 6.13 release the files of a table strictly in the order in which requests on
    // them began, so a single long watch would pin every file that came after it. Linux 6.13 also
    // brought PIDFD_GET_INFO, which is what this tests. The advantage of the table over an inode
    // number, the status after another process reaped, came with 6.15.
    let table = match sys::pidfd_pid(pidfd.as_fd()) {
        Ok(_) => open_table(&ring),
        Err(_) => FileTable::new(0),
    };
    Ok((ring, table, features))
}

/// A pidfd of this process, which can be opened if any pidfd can.
pub(super) fn own_pidfd() -> Result<OwnedFd, BuildError> {
    let me = Pid::try_from(std::process::id()).expect("a running process has a pid");
    let pidfd = sys::pidfd_open(me).map_err(pidfd_denied)?;
    // Linux 5.3 has pidfds but cannot wait for one (`P_PIDFD`, 5.4).
    match sys::waitid(WaitTarget::PeekPidfd(pidfd.as_fd())) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(BuildError::PidfdDenied {
            errno: libc::EINVAL,
        }),
        _ => Ok(pidfd),
    }
}

/// The error for a ring that opened but cannot be entered.
pub(super) fn enter_denied(source: io::Error) -> BuildError {
    let errno = source.raw_os_error().unwrap_or(0);
    match errno {
        libc::EPERM | libc::EACCES | libc::ENOSYS => BuildError::IoUringDenied {
            errno,
            remedy: "a seccomp profile allows io_uring_setup and denies io_uring_enter; allow both",
        },
        libc::ENOMEM => BuildError::OutOfMemory,
        _ => SystemError {
            call: "io_uring_enter",
            source,
        }
        .into(),
    }
}

/// The error for a ring that cannot poll a pidfd.
pub(super) fn poll_denied(errno: i32) -> BuildError {
    match errno {
        libc::ENOMEM => BuildError::OutOfMemory,
        _ => BuildError::IoUringDenied {
            errno,
            remedy: "the ring cannot poll pidfds; use Linux 5.13 or later, and remove restrictions on its requests",
        },
    }
}

fn open_ring() -> Result<IoUring, BuildError> {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(CQ_ENTRIES).setup_clamp().dontfork();
    let plain = builder.clone();
    // Linux 6.1: the ring thread runs completion work when it waits, without being interrupted for
    // it. The flag shows that such work is pending.
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all();
    faults::inject("io_uring_setup")
        .and_then(|()| builder.build(SQ_ENTRIES))
        .or_else(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => plain.build(SQ_ENTRIES),
            _ => Err(error),
        })
        .map_err(ring_denied)
}

fn ring_denied(source: io::Error) -> BuildError {
    let errno = source.raw_os_error().unwrap_or(0);
    if let Some(none) = NoDescriptors::from_errno(errno) {
        return none.into();
    }
    match errno {
        libc::EPERM | libc::EACCES => {
            let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
                .is_ok_and(|value| value.trim() != "0");
            let remedy = match disabled {
                true => {
                    "set the sysctl kernel.io_uring_disabled to 0 (or to 1, and run in the group that kernel.io_uring_group names)"
                }
                false => {
                    "a seccomp profile or a security module denies it; allow io_uring_setup, io_uring_enter and io_uring_register (in a container, with your own seccomp profile)"
                }
            };
            BuildError::IoUringDenied { errno, remedy }
        }
        libc::ENOSYS => BuildError::IoUringDenied {
            errno,
            remedy: "the kernel is built without io_uring (CONFIG_IO_URING), or a seccomp profile hides it",
        },
        libc::EINVAL => BuildError::IoUringTooOld {
            missing: "IORING_SETUP_CQSIZE and IORING_SETUP_CLAMP (Linux 5.6)",
        },
        libc::ENOMEM => BuildError::OutOfMemory,
        _ => SystemError {
            call: "io_uring_setup",
            source,
        }
        .into(),
    }
}

fn pidfd_denied(source: io::Error) -> BuildError {
    let errno = source.raw_os_error().unwrap_or(0);
    if let Some(none) = NoDescriptors::from_errno(errno) {
        return none.into();
    }
    match errno {
        libc::EPERM | libc::EACCES | libc::ENOSYS => BuildError::PidfdDenied { errno },
        libc::ENOMEM => BuildError::OutOfMemory,
        _ => SystemError {
            call: "pidfd_open",
            source,
        }
        .into(),
    }
}

/// Registers the file table, if the kernel can turn its slots into descriptors again. A table may
/// have as many slots as the process may have descriptors at that moment, so the soft limit is
/// raised to the hard limit for the call.
fn open_table(ring: &IoUring) -> FileTable {
    let mut probe = Probe::new();
    let usable = ring.submitter().register_probe(&mut probe).is_ok()
        && probe.is_supported(opcode::FixedFdInstall::CODE);
    let len = if usable {
        sys::with_raised_descriptor_limit(|limit| {
            let len = limit.min(TABLE_MAX) as u32;
            ring.submitter()
                .register_files_sparse(len)
                .map_or(0, |()| len)
        })
    } else {
        0
    };
    FileTable::new(len)
}
