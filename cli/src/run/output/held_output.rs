//! What waits for the end of `--watch`: the output of jobs, and messages, which would tear the view.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// More than this is moved to the file.
pub(super) const IN_MEMORY_MAX: usize = 64 * 1024;
/// The size of the pieces in which the file is read again.
const READ_AT_ONCE: usize = 64 * 1024;

/// Bytes in the order in which they came: the last ones in memory, the others in an unlinked file.
pub(super) struct HeldOutput {
    file: File,
    pub(super) buffer: Vec<u8>,
    /// Standard output is held, and not only standard error.
    pub(super) holds_stdout: bool,
    failure: Option<io::Error>,
}

impl HeldOutput {
    pub(super) fn new(holds_stdout: bool) -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile()?,
            buffer: Vec::new(),
            holds_stdout,
            failure: None,
        })
    }

    /// Moves the bytes to the file if there are many. After an error they are discarded.
    pub(super) fn limit(&mut self) {
        if self.buffer.len() > IN_MEMORY_MAX {
            if let Err(error) = self.file.write_all(&self.buffer) {
                self.failure.get_or_insert(error);
            }
            self.buffer.clear();
        }
    }

    /// Why bytes were discarded, once.
    pub(super) fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Starts to return the bytes.
    pub(super) fn rewind(&mut self) {
        // A regular file of this process can be read.
        let _ = self.file.seek(SeekFrom::Start(0));
    }

    /// The next bytes. `None` at the end.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut piece = (&self.file).take(READ_AT_ONCE as u64);
        match piece.read_to_end(&mut bytes) {
            Ok(1..) => Some(bytes),
            _ if self.buffer.is_empty() => None,
            _ => Some(std::mem::take(&mut self.buffer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_in_order() {
        let mut held = HeldOutput::new(true).unwrap();
        let mut expected = Vec::new();
        for number in 0..100_000_u32 {
            held.buffer.extend_from_slice(&number.to_ne_bytes());
            expected.extend_from_slice(&number.to_ne_bytes());
            held.limit();
            assert!(held.buffer.len() <= IN_MEMORY_MAX);
        }
        held.rewind();
        let mut returned = Vec::new();
        while let Some(bytes) = held.next() {
            returned.extend(bytes);
        }
        assert!(returned == expected);
        assert!(held.take_failure().is_none());
    }
}
