//! The kinds of files that the run writes to, or reads more than once.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Whether the path names a FIFO, a socket, or another file whose other end may block this process.
///
/// A regular file and a device such as /dev/null do not. What is absent or a directory does not
/// either: the open that follows reports it.
pub(super) fn may_block(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| {
        let kind = metadata.file_type();
        !kind.is_file() && !kind.is_char_device() && !kind.is_dir()
    })
}
