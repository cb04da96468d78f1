//! Where the cgroup v2 of this process is: its path in the hierarchy, and the mounts that show it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// A mount of the cgroup v2 hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The group that the mount shows at its mount point.
    root: PathBuf,
    point: PathBuf,
    writable: bool,
}

/// The directories at which the mounts show a group, the writable ones first. `None` if no cgroup
/// v2 hierarchy is mounted.
pub(super) fn directories(mountinfo: &[u8], group: &Path) -> Option<Vec<PathBuf>> {
    let mut mounts: Vec<_> = mountinfo.split(|&byte| byte == b'\n').collect();
    // A later mount may cover an earlier one, so it comes first.
    mounts.reverse();
    let mut mounts: Vec<_> = mounts.into_iter().filter_map(parse_mount).collect();
    mounts.sort_by_key(|mount| !mount.writable);
    let directories = mounts.iter().filter_map(|mount| mount.directory_of(group));
    (!mounts.is_empty()).then(|| directories.collect())
}

/// The path of the group of a process in the cgroup v2 hierarchy, from the line `0::PATH` of
/// `/proc/PID/cgroup` (`cgroups(7)`). The other lines are of hierarchies of version 1.
pub(super) fn group_of(cgroup: &[u8]) -> Option<&Path> {
    let mut lines = cgroup.split(|&byte| byte == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"0::"))?;
    Some(Path::new(OsStr::from_bytes(path)))
}

impl Mount {
    /// The directory at which this mount shows a group, if it does.
    ///
    /// Both paths are relative to the root of the cgroup namespace of this process, and begin with
    /// `/..` for each level above that root.
    fn directory_of(&self, group: &Path) -> Option<PathBuf> {
        let below = group.strip_prefix(&self.root).ok()?;
        let is_plain = |part| matches!(part, Component::Normal(_));
        below.components().all(is_plain).then(|| {
            let mut directory = self.point.clone();
            directory.extend(below);
            directory
        })
    }
}

/// Parses a line of `/proc/self/mountinfo` (`proc(5)`). `None` if it is of another file system.
///
/// ```text
/// 41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
/// ```
fn parse_mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let (root, point, options) = (fields.nth(3)?, fields.next()?, fields.next()?);
    // Optional fields end with a hyphen.
    fields.find(|&field| field == b"-")?;
    if fields.next()? != b"cgroup2" {
        return None;
    }
    let is_writable = |options: &[u8]| options.split(|&byte| byte == b',').all(|o| o != b"ro");
    let of_file_system = fields.nth(1).unwrap_or_default();
    Some(Mount {
        root: unescape(root).into(),
        point: unescape(point).into(),
        writable: is_writable(options) && is_writable(of_file_system),
    })
}

/// Replaces the octal escapes of spaces, tabs, newlines and backslashes.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| byte == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mountinfo: &str, group: &str) -> Option<Vec<PathBuf>> {
        directories(mountinfo.as_bytes(), Path::new(group))
    }

    fn one(path: &str) -> Option<Vec<PathBuf>> {
        Some(vec![path.into()])
    }

    #[test]
    fn the_group_is_the_one_of_the_hierarchy_zero() {
        let hybrid = b"9:name=systemd:/a\n4:memory:/b\n0::/c:d e\n";
        assert_eq!(group_of(hybrid), Some(Path::new("/c:d e")));
        assert_eq!(group_of(b"0::/\n"), Some(Path::new("/")));
        assert_eq!(group_of(b"4:memory:/0::/x\n10::/y\n"), None);
        assert_eq!(group_of(b""), None);
        assert_eq!(
            group_of(b"0::/\xff\n"),
            Some(Path::new(OsStr::from_bytes(b"/\xff")))
        );
    }

    #[test]
    fn the_mount_is_the_one_of_version_2() {
        let pure = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(
            found(pure, "/user.slice/a"),
            one("/sys/fs/cgroup/user.slice/a")
        );
        assert_eq!(found(pure, "/"), one("/sys/fs/cgroup"));
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(found(hybrid, "/x"), one("/sys/fs/cgroup/unified/x"));
        let version_1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        assert_eq!(found(version_1, "/x"), None);
        assert_eq!(found("", "/x"), None);
        for broken in [
            "",
            "1",
            "1 2 3 / /a rw",
            "1 2 3 / /a rw -",
            "1 2 3 / /a rw - x",
        ] {
            assert_eq!(
                found(&format!("{broken}\n{pure}"), "/"),
                one("/sys/fs/cgroup")
            );
        }
    }

    #[test]
    fn a_mount_of_a_part_shows_the_groups_in_that_part() {
        let part = "29 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(found(part, "/docker/abc"), one("/sys/fs/cgroup"));
        assert_eq!(found(part, "/docker/abc/d"), one("/sys/fs/cgroup/d"));
        assert_eq!(found(part, "/docker/abcd"), Some(vec![]));
        assert_eq!(found(part, "/"), Some(vec![]));
    }

    #[test]
    fn a_group_outside_of_the_namespace_is_not_mistaken_for_one_inside() {
        let inside = "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(found(inside, "/../other"), Some(vec![]));
        let outside = "29 23 0:26 /.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(found(outside, "/../other"), one("/sys/fs/cgroup/other"));
        assert_eq!(found(outside, "/../../other"), Some(vec![]));
        assert_eq!(found(outside, "/"), Some(vec![]));
    }

    #[test]
    fn writable_and_later_mounts_are_tried_first() {
        let mounts = "1 0 0:26 / /a ro - cgroup2 cgroup2 rw\n\
                      2 0 0:26 / /b rw - cgroup2 cgroup2 rw\n\
                      3 0 0:26 / /c rw,noexec - cgroup2 cgroup2 rw\n\
                      4 0 0:26 / /d rw - cgroup2 cgroup2 ro";
        let order: Vec<PathBuf> = ["/c/x", "/b/x", "/d/x", "/a/x"].map(Into::into).into();
        assert_eq!(found(mounts, "/x"), Some(order));
    }

    #[test]
    fn escaped_characters_are_replaced() {
        let escaped = r"1 0 0:26 / /a\040b\134c\ rw - cgroup2 cgroup2 rw";
        assert_eq!(found(escaped, "/x"), one(r"/a b\c\/x"));
        assert_eq!(unescape(br"\04"), r"\04");
        assert_eq!(unescape(br"\999"), r"\999");
    }
}
