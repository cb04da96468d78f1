//! A cgroup of the machine that is delegated to this program.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{self, Path, PathBuf};

use rustix::fs::{AtFlags, OFlags, fstatfs, statat};

use super::error::CgroupError;
use super::files;
use super::limits::CgroupLimits;
use super::location::{directories, group_of};
use super::pool::CgroupPool;

/// `CGROUP_SUPER_MAGIC` and `CGROUP2_SUPER_MAGIC` of `<linux/magic.h>`.
const VERSION_1_MAGIC: u64 = 0x27_e0eb;
const VERSION_2_MAGIC: u64 = 0x6367_7270;

/// The sub-group of [`Cgroup::enter_leaf`].
const SUPERVISOR: &str = "exitring-supervisor";

/// A cgroup of version 2, in which a [`CgroupPool`] makes groups for children.
///
/// The group has to be delegated: the user of this process may make sub-groups, and move processes
/// into them (write access to the directory, to `cgroup.procs`, and for limits to
/// `cgroup.subtree_control`). systemd delegates a group with `Delegate=yes`:
///
/// ```text
/// systemd-run --user --scope -p Delegate=yes COMMAND
/// ```
///
/// Root may write to any group, also to one that systemd manages itself. systemd leaves only
/// delegated groups alone.
///
/// A value of this type is a path. It holds no descriptor and changes nothing.
///
/// ```no_run
/// use exitring::{Cgroup, CgroupLimits};
///
/// let group = Cgroup::find()?;
/// // Limits need a group without processes of its own, and this process is in it.
/// group.enter_leaf()?;
/// let pool = group.pool(&CgroupLimits::new().memory(512 << 20))?;
/// # Ok::<(), exitring::CgroupError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Finds the cgroup v2 of this process (`/proc/self/cgroup`, and the mounts in
    /// `/proc/self/mountinfo`), also beside hierarchies of version 1, and in containers with and
    /// without a cgroup namespace.
    ///
    /// Whether the group is delegated shows when a pool is made.
    ///
    /// # Errors
    ///
    /// `NotMounted` without a cgroup v2 hierarchy; `NotVisible` if no mount shows the group; and
    /// the errors of [`at`](Self::at).
    pub fn find() -> Result<Self, CgroupError> {
        let read = |path| {
            fs::read(path).map_err(|source| match source.kind() {
                // Without /proc or without cgroups.
                io::ErrorKind::NotFound => CgroupError::NotMounted,
                _ => CgroupError::from_call("read", Path::new(path), source),
            })
        };
        let cgroup = read("/proc/self/cgroup")?;
        let group = group_of(&cgroup).ok_or(CgroupError::NotMounted)?;
        let directories = directories(&read("/proc/self/mountinfo")?, group);
        let mut error = CgroupError::NotVisible {
            group: group.to_owned(),
        };
        for directory in directories.ok_or(CgroupError::NotMounted)? {
            match Self::at(directory) {
                Ok(found) => return Ok(found),
                // Another mount may cover this one.
                Err(other) => error = other,
            }
        }
        Err(error)
    }

    /// Uses a cgroup v2 by the path of its directory.
    ///
    /// Processes of other groups can be started in it only with write access to `cgroup.procs` of
    /// the common ancestor of both groups (`cgroups(7)`), so a delegated group above this process
    /// is the usual choice.
    ///
    /// # Errors
    ///
    /// `Missing`, `NotACgroup`, `Version1`, `NotDelegated` if the directory may not be opened,
    /// `NoDescriptors`.
    pub fn at(path: impl Into<PathBuf>) -> Result<Self, CgroupError> {
        let path = path.into();
        // The program may change its working directory.
        let path = path::absolute(&path).unwrap_or(path);
        let group = Self { path };
        group.open()?;
        Ok(group)
    }

    /// The directory of the group.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The controllers that are available in the group (`cgroup.controllers`), such as `memory`,
    /// `pids` and `cpu`.
    ///
    /// # Errors
    ///
    /// `Missing` if the group was removed meanwhile; `NoDescriptors`.
    pub fn controllers(&self) -> Result<Vec<String>, CgroupError> {
        let dir = self.open()?;
        let names = self.read(&dir, "cgroup.controllers")?;
        Ok(names.split_whitespace().map(Into::into).collect())
    }

    /// Moves this process, with all its threads, to the sub-group `exitring-supervisor`, which is
    /// made if it does not exist.
    ///
    /// Limits need a group without processes of its own. In a scope of systemd that holds this
    /// process only, this call makes it so. Children that already exist are not moved. Those that
    /// start later without a leaf start in the sub-group. The sub-group remains after the end of
    /// this process until the group is removed, or another program enters it.
    ///
    /// # Errors
    ///
    /// `NotDelegated`, `Missing`, `TooManyGroups`, `NoDescriptors`.
    pub fn enter_leaf(&self) -> Result<(), CgroupError> {
        let dir = self.open()?;
        let leaf = Path::new(SUPERVISOR);
        match files::make_group(&dir, leaf) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(CgroupError::from_mkdir(&self.path, error));
            }
            _ => {}
        }
        let procs = leaf.join("cgroup.procs");
        files::write(&dir, &procs, "0").map_err(|source| {
            let path = self.path.join(SUPERVISOR);
            match source.raw_os_error() {
                Some(libc::EBUSY) => CgroupError::ControllersEnabled { path },
                _ => CgroupError::from_call("write", &path, source),
            }
        })
    }

    /// Makes a pool of groups for children, each with these limits.
    ///
    /// The call makes a sub-group for the pool, and the first leaf in it, with all limits. So it
    /// fails if the group is not delegated, or if a limit cannot be set, and nothing has run yet.
    /// It enables the controllers that the limits need for the sub-groups of this group, and they
    /// stay enabled.
    ///
    /// The call also removes the groups that programs have left here that made a pool and were
    /// killed.
    ///
    /// # Errors
    ///
    /// `NotDelegated`; `NoController`, `HasProcesses` and `LimitRefused` with limits;
    /// `TooManyGroups`, `Missing`, `Threaded`, `NoDescriptors`, `OutOfMemory`.
    pub fn pool(&self, limits: &CgroupLimits) -> Result<CgroupPool, CgroupError> {
        CgroupPool::new(self, limits)
    }

    /// Opens the directory.
    pub(super) fn open(&self) -> Result<OwnedFd, CgroupError> {
        let error = |call, source| CgroupError::from_call(call, &self.path, source);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = files::open(rustix::fs::CWD, &self.path, flags);
        let dir = dir.map_err(|source| error("open", source))?;
        let path = || self.path.clone();
        match fstatfs(&dir).map_err(|errno| error("fstatfs", errno.into()))? {
            found if found.f_type as u64 == VERSION_2_MAGIC => Ok(dir),
            found if found.f_type as u64 == VERSION_1_MAGIC => {
                Err(CgroupError::Version1 { path: path() })
            }
            _ => Err(CgroupError::NotACgroup { path: path() }),
        }
    }

    /// Enables controllers for the sub-groups of this group.
    ///
    /// With processes in the group the kernel refuses the controller memory (`EBUSY`). It accepts
    /// pids and cpu, but the group becomes the root of a threaded subtree, in which no process can
    /// start. So this is checked before.
    pub(super) fn enable(
        &self,
        dir: &OwnedFd,
        controllers: &[&'static str],
    ) -> Result<(), CgroupError> {
        let file = Path::new("cgroup.subtree_control");
        let enabled = self.read(dir, "cgroup.subtree_control")?;
        let lacks = |names: &str, name: &str| names.split_whitespace().all(|other| other != name);
        let mut new = controllers.to_vec();
        new.retain(|name| lacks(&enabled, name));
        if new.is_empty() {
            return Ok(());
        }
        if let Some(error) = self.has_processes(dir)? {
            return Err(error);
        }
        let enable: Vec<_> = new.iter().map(|name| format!("+{name}")).collect();
        let Err(source) = files::write(dir, file, &enable.join(" ")) else {
            return Ok(());
        };
        match source.raw_os_error() {
            // ENOENT: not in cgroup.controllers. EINVAL: the kernel does not have it.
            Some(libc::ENOENT | libc::EINVAL) => {
                let available = self.read(dir, "cgroup.controllers")?;
                if let Some(controller) = new.into_iter().find(|name| lacks(&available, name)) {
                    return Err(CgroupError::NoController {
                        controller,
                        path: self.path.clone(),
                    });
                }
            }
            // One has entered it meanwhile.
            Some(libc::EBUSY) => {
                if let Some(error) = self.has_processes(dir)? {
                    return Err(error);
                }
            }
            _ => {}
        }
        let path = self.path.join(file);
        Err(CgroupError::from_call("write", &path, source))
    }

    /// The error for a group that holds processes, if it does. The root of the hierarchy may.
    fn has_processes(&self, dir: &OwnedFd) -> Result<Option<CgroupError>, CgroupError> {
        // Every group but the root has this file (Linux 4.14).
        if statat(dir, "cgroup.type", AtFlags::SYMLINK_NOFOLLOW).is_err() {
            return Ok(None);
        }
        let processes = self.read(dir, "cgroup.procs")?;
        let own = std::process::id().to_string();
        Ok((!processes.is_empty()).then(|| CgroupError::HasProcesses {
            path: self.path.clone(),
            processes: processes.lines().count(),
            includes_self: processes.lines().any(|pid| pid == own),
        }))
    }

    /// Returns an error if no process can start in a sub-group, because this group is the root of a
    /// threaded subtree (`cgroup.type`, Linux 4.14).
    pub(super) fn check_sub_group(&self, dir: &OwnedFd, name: &Path) -> Result<(), CgroupError> {
        let mut buffer = [0; 64];
        match files::read(dir, &name.join("cgroup.type"), &mut buffer) {
            Ok("domain invalid\n") => Err(CgroupError::Threaded {
                path: self.path.clone(),
            }),
            Err(error) if !files::is_gone(&error) => {
                Err(CgroupError::from_call("read", &self.path.join(name), error))
            }
            _ => Ok(()),
        }
    }

    /// Reads a file of the group, up to 64 KiB.
    fn read(&self, dir: &OwnedFd, file: &str) -> Result<String, CgroupError> {
        let mut buffer = vec![0; 64 << 10];
        let text = files::read(dir, Path::new(file), &mut buffer);
        let text = text.map_err(|source| CgroupError::from_call("read", &self.path, source))?;
        Ok(text.to_owned())
    }
}
