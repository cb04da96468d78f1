//! The identity of a leaf.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fstat, open};

/// Names a leaf for as long as the machine is up: the kernel gives the number to no other cgroup,
/// while another program may use the path after the leaf was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeafId {
    pub(crate) path: PathBuf,
    pub(crate) inode: u64,
}

impl LeafId {
    /// The identity of the leaf that has this path now.
    pub(super) fn at(path: PathBuf) -> io::Result<Self> {
        let dir = open_directory(&path)?;
        let inode = fstat(&dir)?.st_ino;
        Ok(Self { path, inode })
    }

    /// Opens the directory. `NotFound` if the leaf was removed.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        let dir = open_directory(&self.path)?;
        match fstat(&dir)?.st_ino == self.inode {
            true => Ok(dir),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}
