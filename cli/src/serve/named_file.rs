//! A file that is ours, under its name: whether it is still there.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

/// As long as we have it open, its inode is given to no other file.
#[derive(Clone, Debug)]
pub(crate) struct NamedFile {
    pub(crate) path: PathBuf,
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl NamedFile {
    /// The file that has this name now.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let there = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: there.dev(),
            inode: there.ino(),
        })
    }

    /// Whether it was deleted, moved, or replaced. What cannot be looked at for a moment is not gone.
    pub(crate) fn is_gone(&self) -> bool {
        match fs::symlink_metadata(&self.path) {
            Ok(there) => (there.dev(), there.ino()) != (self.device, self.inode),
            Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        }
    }
}

/// Makes a file's times now, so that what cleans folders of old files spares it. Opens nothing: a lock would go with the close.
pub(crate) fn touch(path: &Path) {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    // If it cannot be, the file is as old as it was.
    let _ = utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
}
