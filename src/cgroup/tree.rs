//! The groups that a child has made inside its leaf.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, OFlags};

use super::files;

/// How many groups one walk visits at most, so that a child that makes groups without end does not
/// occupy the caller without end.
pub(super) const GROUPS_MAX: usize = 4096;

/// Lists a group and the groups below it, each before those below it. Lists `GROUPS_MAX` at most.
///
/// Paths are relative to the directory. A group that is removed meanwhile may be listed or not.
pub(super) fn groups(dir: impl AsFd, group: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![group.to_owned()];
    while let Some(group) = open.pop() {
        match sub_groups(dir.as_fd(), &group, GROUPS_MAX - open.len().min(GROUPS_MAX)) {
            Ok(below) => open.extend(below),
            Err(error) if files::is_gone(&error) => continue,
            Err(error) => return Err(error),
        }
        found.push(group);
        if found.len() == GROUPS_MAX {
            break;
        }
    }
    Ok(found)
}

/// The sub-groups of a group, up to a number.
pub(super) fn sub_groups(dir: impl AsFd, group: &Path, max: usize) -> io::Result<Vec<PathBuf>> {
    if !files::has_sub_groups(dir.as_fd(), group)? {
        return Ok(Vec::new());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let entries = Dir::new(files::open(dir, group, flags)?)?;
    let mut below = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() != FileType::Directory || name == b"." || name == b".." {
            continue;
        }
        if below.len() == max {
            break;
        }
        below.push(group.join(as_path(name)));
    }
    Ok(below)
}

fn as_path(name: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(name))
}

/// Removes a group and the groups below it, if none holds a process.
///
/// `EBUSY` if one does, or if there are more than one walk visits. A later call continues.
pub(super) fn remove(dir: impl AsFd, group: &Path) -> io::Result<()> {
    match files::remove_group(dir.as_fd(), group) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        result => return gone_is_removed(result),
    }
    if files::Events::read(dir.as_fd(), group)?.populated {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // The groups at the end of the list have no group below them. One that is not empty stays, and
    // so do those above it, of which the last call reports the error.
    let mut result = Ok(());
    for group in groups(dir.as_fd(), group)?.iter().rev() {
        result = gone_is_removed(files::remove_group(dir.as_fd(), group));
    }
    result
}

fn gone_is_removed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if files::is_gone(&error) => Ok(()),
        other => other,
    }
}
