//! The error of all operations on cgroups.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::error::{NoDescriptors, SystemError};

/// How a program gets a cgroup of its own.
const DELEGATE: &str = "start the program with `systemd-run --user --scope -p Delegate=yes \
                        COMMAND`, or give it a delegated group (Cgroup::at)";

/// The error of operations on cgroups: of [`Cgroup`](crate::Cgroup),
/// [`CgroupPool`](crate::CgroupPool) and [`CgroupLeaf`](crate::CgroupLeaf).
#[derive(Debug)]
#[non_exhaustive]
pub enum CgroupError {
    /// This machine, or this container, has no cgroup v2 hierarchy mounted.
    NotMounted,
    /// The cgroup of this process is outside of what the mounts of cgroup v2 show, as in a
    /// container that shares the cgroup namespace of its host.
    NotVisible {
        /// The path of the group in its hierarchy.
        group: PathBuf,
    },
    /// The directory belongs to a hierarchy of cgroups version 1.
    Version1 {
        /// The directory.
        path: PathBuf,
    },
    /// The path is not a directory of a cgroup hierarchy.
    NotACgroup {
        /// The path.
        path: PathBuf,
    },
    /// The cgroup does not exist, or was removed meanwhile.
    Missing {
        /// The cgroup.
        path: PathBuf,
    },
    /// The cgroup is not delegated to this user, or is mounted read-only.
    NotDelegated {
        /// The cgroup or file that could not be written.
        path: PathBuf,
        /// `EACCES`, `EPERM` or `EROFS`.
        source: io::Error,
    },
    /// A limit was asked for whose controller the cgroup does not have.
    NoController {
        /// The name of the controller.
        controller: &'static str,
        /// The cgroup.
        path: PathBuf,
    },
    /// A limit was asked for, and the cgroup itself holds processes. The kernel enables controllers
    /// only for the sub-groups of a group without processes (the "no internal process constraint").
    HasProcesses {
        /// The cgroup.
        path: PathBuf,
        /// How many processes it holds.
        processes: usize,
        /// Whether this process is one of them.
        includes_self: bool,
    },
    /// A limit's value was refused.
    LimitRefused {
        /// The file of the limit, such as `memory.max`.
        file: &'static str,
        /// The refused value.
        value: String,
        /// The error of the kernel; `InvalidInput` if the value was not written at all.
        source: io::Error,
    },
    /// The cgroup may have no more sub-groups: `cgroup.max.descendants` or `cgroup.max.depth` of it
    /// or of one above it, or the kernel's limit of 65,535 groups with the controller memory.
    TooManyGroups {
        /// The cgroup in which none could be made.
        path: PathBuf,
    },
    /// All leaves of the pool are in use, or have processes left.
    PoolFull {
        /// The number of leaves that the pool may have.
        max: usize,
        /// The number of leaves in which a child has left processes.
        with_leftovers: usize,
    },
    /// Controllers are enabled for the sub-groups of a leaf, so no process can start in it.
    ControllersEnabled {
        /// The leaf.
        path: PathBuf,
    },
    /// The group is part of a threaded subtree, in which no process can start.
    Threaded {
        /// The group.
        path: PathBuf,
    },
    /// Processes of a leaf were not all killed, because they fork faster than they can be killed.
    /// Only before Linux 5.14, where `cgroup.kill` is missing.
    StillForking {
        /// The leaf.
        path: PathBuf,
    },
    /// The pool was made by the parent of this forked process.
    ForkedChild,
    /// No descriptor is free.
    NoDescriptors(NoDescriptors),
    /// The kernel has no memory for another group.
    OutOfMemory,
    /// Another system call failed.
    System(SystemError),
}

impl CgroupError {
    /// Whether a later attempt can succeed: the call ran out of something that other code may
    /// release.
    pub fn is_throttling(&self) -> bool {
        matches!(
            self,
            Self::TooManyGroups { .. }
                | Self::PoolFull { .. }
                | Self::NoDescriptors(_)
                | Self::OutOfMemory
        )
    }

    /// The error for a failed call on a cgroup or on one of its files.
    pub(super) fn from_call(call: &'static str, path: &Path, source: io::Error) -> Self {
        let errno = source.raw_os_error().unwrap_or(0);
        if let Some(none) = NoDescriptors::from_errno(errno) {
            return Self::NoDescriptors(none);
        }
        let path = path.to_owned();
        match errno {
            libc::EACCES | libc::EPERM | libc::EROFS => Self::NotDelegated { path, source },
            // ENODEV: the directory was open, or its file was, when the group was removed.
            libc::ENOENT | libc::ENODEV => Self::Missing { path },
            libc::ENOTDIR => Self::NotACgroup { path },
            libc::ENOMEM => Self::OutOfMemory,
            libc::EOPNOTSUPP => Self::Threaded { path },
            _ => Self::System(SystemError { call, source }),
        }
    }

    /// The error for a failed `mkdir(2)` in a cgroup.
    pub(super) fn from_mkdir(parent: &Path, source: io::Error) -> Self {
        match source.raw_os_error() {
            // ENOSPC: no id is free for a group with the controller memory.
            Some(libc::EAGAIN | libc::ENOSPC) => Self::TooManyGroups {
                path: parent.to_owned(),
            },
            _ => Self::from_call("mkdir", parent, source),
        }
    }
}

impl fmt::Display for CgroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMounted => f.write_str(
                "no cgroup v2 hierarchy is mounted; boot with systemd.unified_cgroup_hierarchy=1, \
                 or mount one (mount -t cgroup2 none DIRECTORY)",
            ),
            Self::NotVisible { group } => write!(
                f,
                "no mount of cgroup v2 shows {}, the cgroup of this process; give the container a \
                 cgroup namespace of its own (docker run --cgroupns=private)",
                group.display()
            ),
            Self::Version1 { path } => write!(
                f,
                "{} is a cgroup of version 1; a group of the cgroup v2 hierarchy is needed \
                 (grep cgroup2 /proc/self/mountinfo)",
                path.display()
            ),
            Self::NotACgroup { path } => write!(
                f,
                "{} is not a cgroup; a directory of the cgroup v2 hierarchy is needed \
                 (grep cgroup2 /proc/self/mountinfo)",
                path.display()
            ),
            Self::Missing { path } => write!(
                f,
                "the cgroup {} does not exist, or was removed meanwhile",
                path.display()
            ),
            Self::NotDelegated { path, source } => {
                write!(f, "no access to {}: ", path.display())?;
                match source.raw_os_error() {
                    Some(libc::EROFS) => f.write_str(
                        "cgroups are mounted read-only here; run the container with a writable \
                         cgroup",
                    ),
                    _ => write!(f, "the cgroup is not delegated to this user; {DELEGATE}"),
                }
            }
            Self::NoController { controller, path } => write!(
                f,
                "the controller {controller}, which a limit needs, is not available in {} (see its \
                 cgroup.controllers); enable it in the groups above, with systemd by Delegate=yes",
                path.display()
            ),
            Self::HasProcesses {
                path,
                processes,
                includes_self,
            } => {
                write!(
                    f,
                    "limits need controllers, which cannot be enabled below {} while it holds \
                     processes ({processes}); ",
                    path.display()
                )?;
                f.write_str(match includes_self {
                    true => {
                        "call Cgroup::enter_leaf to move this process to a sub-group, and start \
                         it in a group without other processes"
                    }
                    false => "give a group without processes of its own (Cgroup::at)",
                })
            }
            Self::LimitRefused { file, value, .. } => {
                write!(f, "the value {value:?} was refused as {file}")
            }
            Self::TooManyGroups { path } => write!(
                f,
                "no more groups can be made in {}: raise cgroup.max.descendants and \
                 cgroup.max.depth of it and of the groups above it",
                path.display()
            ),
            Self::PoolFull {
                max,
                with_leftovers,
            } => write!(
                f,
                "all {max} cgroups of the pool are in use, {with_leftovers} of them by processes \
                 that a child has left; kill those, or raise CgroupPool::set_max_leaves"
            ),
            Self::ControllersEnabled { path } => write!(
                f,
                "no process can start in {}, because controllers are enabled for its sub-groups; \
                 disable them in its cgroup.subtree_control, or give another group",
                path.display()
            ),
            Self::Threaded { path } => write!(
                f,
                "{} is part of a threaded subtree, in which this cannot be done; give a domain \
                 group (cgroup.type)",
                path.display()
            ),
            Self::StillForking { path } => write!(
                f,
                "the processes of {} fork faster than they can be killed; Linux 5.14 can kill them",
                path.display()
            ),
            Self::ForkedChild => f.write_str(
                "the cgroup pool belongs to the parent of this forked process; make one here",
            ),
            Self::NoDescriptors(cause) => cause.fmt(f),
            Self::OutOfMemory => f.write_str("the kernel has no memory for another cgroup"),
            Self::System(cause) => cause.fmt(f),
        }
    }
}

impl Error for CgroupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotDelegated { source, .. } | Self::LimitRefused { source, .. } => Some(source),
            Self::NoDescriptors(cause) => cause.source(),
            Self::System(cause) => cause.source(),
            _ => None,
        }
    }
}
