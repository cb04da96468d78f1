//! What a leaf has counted, and which processes are in it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use exitring_protocol::CgroupUsage;
use rustix::fs::{Dir, FileType, Mode, OFlags, openat};

/// How much of each file is read: of `cgroup.procs` some ten thousand pids.
const READ_MAX: usize = 64 << 10;
/// How many groups that the child has made inside its own are visited.
const GROUPS_MAX: usize = 256;

/// Reads what the leaf at this directory has counted. `None` if it was removed.
pub(super) fn read(leaf: &OwnedFd) -> Option<CgroupUsage> {
    let number = |file: &str| text(leaf, Path::new(file)).ok();
    let events = text(leaf, Path::new("cgroup.events")).ok()?;
    let leftover = match value(&events, "populated") {
        Some(0) => 0,
        _ => count_processes(leaf),
    };
    Some(CgroupUsage {
        leftover,
        // Without the controller memory there is no such file.
        peak_memory_bytes: number("memory.peak").and_then(|text| text.trim().parse().ok()),
        oom_kills: number("memory.events").and_then(|text| value(&text, "oom_kill")),
    })
}

/// Counts the processes of a group and of the groups below it. A lower bound if there are many.
fn count_processes(leaf: &OwnedFd) -> u64 {
    let mut count = 0;
    let mut groups = vec![PathBuf::from(".")];
    let mut visited = 0;
    while let Some(group) = groups.pop() {
        visited += 1;
        // A group that was removed meanwhile holds none.
        if let Ok(pids) = text(leaf, &group.join("cgroup.procs")) {
            // The last line may be cut off.
            count += pids.bytes().filter(|byte| *byte == b'\n').count() as u64;
        }
        if visited + groups.len() < GROUPS_MAX {
            groups.extend(sub_groups(leaf, &group).unwrap_or_default());
        }
    }
    count
}

fn sub_groups(leaf: &OwnedFd, group: &Path) -> io::Result<Vec<PathBuf>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entries = Dir::new(openat(leaf, group, flags, Mode::empty())?)?;
    let mut found = Vec::new();
    for entry in entries.take(GROUPS_MAX) {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == FileType::Directory && name != b"." && name != b".." {
            use std::os::unix::ffi::OsStrExt;
            found.push(group.join(std::ffi::OsStr::from_bytes(name)));
        }
    }
    Ok(found)
}

fn text(dir: impl AsFd, file: &Path) -> io::Result<String> {
    use std::io::Read;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = std::fs::File::from(openat(dir, file, flags, Mode::empty())?);
    let mut text = String::new();
    file.take(READ_MAX as u64).read_to_string(&mut text)?;
    Ok(text)
}

/// The value of a key in lines `KEY VALUE`.
fn value(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, value) = lines.find(|(name, _)| *name == key)?;
    value.parse().ok()
}
