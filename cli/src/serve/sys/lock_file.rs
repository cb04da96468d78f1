//! Lock files, which keep a second service away from a socket or a state directory.

use std::fs::{File, OpenOptions, symlink_metadata};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, fcntl_lock};

/// Whether this open file is the one at `path`.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let ids = |its: std::fs::Metadata| (its.dev(), its.ino());
    let named = symlink_metadata(path).map(ids);
    matches!((file.metadata().map(ids), named), (Ok(open), Ok(named)) if open == named)
}

/// Locks a file for as long as it is open, and creates it if needed. `None` if another process
/// holds the lock.
///
/// The lock belongs to the process (`F_SETLK`), not to the descriptor (`flock`). A forked child
/// that waits at its start gate has a copy of the descriptor, and with `flock` would hold the lock
/// for a moment after the service was killed. The lock survives an exec of the service.
pub(crate) fn lock_file(path: &Path) -> Result<Option<File>> {
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    ensure!(
        file.metadata()?.is_file(),
        "{} is not a regular file and cannot be locked",
        path.display()
    );
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::ACCESS) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}
