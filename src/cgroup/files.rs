//! Reading and writing the files of a cgroup, by paths relative to an open directory.
//!
//! Each function opens at most one descriptor, and closes it before it returns.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, statat, unlinkat};

use crate::faults;

/// Opens a file or a directory of a cgroup, with close-on-exec.
pub(super) fn open(dir: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    faults::inject("cgroup_open")?;
    let flags = flags | OFlags::CLOEXEC;
    Ok(openat(dir, path, flags, Mode::empty())?)
}

/// Reads a file into the buffer, up to its size.
pub(super) fn read<'b>(dir: impl AsFd, path: &Path, buffer: &'b mut [u8]) -> io::Result<&'b str> {
    let file = open(dir, path, OFlags::RDONLY)?;
    let mut length = 0;
    while length < buffer.len() {
        match rustix::io::read(&file, &mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    std::str::from_utf8(&buffer[..length]).map_err(io::Error::other)
}

/// Writes a value to a file.
pub(super) fn write(dir: impl AsFd, path: &Path, value: &str) -> io::Result<()> {
    let file = open(dir, path, OFlags::WRONLY)?;
    loop {
        match rustix::io::write(&file, value.as_bytes()) {
            // A file of a cgroup takes a value as a whole.
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes a group.
pub(super) fn make_group(dir: impl AsFd, path: &Path) -> io::Result<()> {
    faults::inject("cgroup_mkdir")?;
    Ok(mkdirat(dir, path, Mode::from_raw_mode(0o755))?)
}

/// Removes a group. `EBUSY` if it holds processes or groups.
pub(super) fn remove_group(dir: impl AsFd, path: &Path) -> io::Result<()> {
    Ok(unlinkat(dir, path, AtFlags::REMOVEDIR)?)
}

/// Whether a group has sub-groups. A directory of cgroups has a link for each, and two more.
pub(super) fn has_sub_groups(dir: impl AsFd, path: &Path) -> io::Result<bool> {
    Ok(statat(dir, path, AtFlags::SYMLINK_NOFOLLOW)?.st_nlink > 2)
}

/// Whether an error says that a group does not exist any more: by its path, or by an open
/// descriptor.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// The value of a key in a file of lines `KEY VALUE`.
pub(super) fn value_of(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, value) = lines.find(|(name, _)| *name == key)?;
    value.parse().ok()
}

/// The state of a group, from its `cgroup.events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Events {
    /// Whether it, or a group in it, holds a process that has not ended.
    pub(super) populated: bool,
    /// Whether it is frozen (Linux 5.2).
    pub(super) frozen: bool,
}

impl Events {
    /// Reads the state of the group at this path.
    pub(super) fn read(dir: impl AsFd, group: &Path) -> io::Result<Self> {
        let mut buffer = [0; 128];
        let text = read(dir, &group.join("cgroup.events"), &mut buffer)?;
        Ok(Self {
            populated: value_of(text, "populated") != Some(0),
            frozen: value_of(text, "frozen") == Some(1),
        })
    }
}
