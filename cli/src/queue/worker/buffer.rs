//! Results that wait for the server: a few in memory, the rest in an unlinked file.
//!
//! The buffer is bounded by the number of leases, because no job is taken while results wait, and by
//! the size of a message.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate};

/// What stays in memory.
const MEMORY_MAX: usize = 8 * 1024 * 1024;

/// The block of most file systems.
const BLOCK: u64 = 4096;

/// Where a result waits.
pub(super) enum Waiting {
    Memory(Bytes),
    File { offset: u64, length: usize },
}

/// The buffer.
pub(super) struct Buffer {
    dir: PathBuf,
    in_memory: usize,
    file: Option<File>,
    /// The length of the file, and how many results are in it. It is cut when there is none.
    length: u64,
    in_file: usize,
}

impl Buffer {
    /// The file will be in this directory.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            in_memory: 0,
            file: None,
            length: 0,
            in_file: 0,
        }
    }

    pub(super) fn put(&mut self, message: Vec<u8>) -> Waiting {
        // Without a file it stays in memory: a result is not lost for lack of a disk.
        if self.in_memory + message.len() > MEMORY_MAX
            && let Some(waiting) = self.write(&message)
        {
            return waiting;
        }
        self.in_memory += message.len();
        Waiting::Memory(message.into())
    }

    fn write(&mut self, message: &[u8]) -> Option<Waiting> {
        if self.file.is_none() {
            self.file = tempfile::tempfile_in(&self.dir).ok();
        }
        let offset = self.length;
        self.file.as_ref()?.write_all_at(message, offset).ok()?;
        self.length += room(message.len());
        self.in_file += 1;
        Some(Waiting::File {
            offset,
            length: message.len(),
        })
    }

    /// The result. `None`: it cannot be read.
    pub(super) fn get(&self, waiting: &Waiting) -> Option<Bytes> {
        match waiting {
            Waiting::Memory(message) => Some(message.clone()),
            Waiting::File { offset, length } => {
                let mut message = vec![0; *length];
                let file = self.file.as_ref()?;
                file.read_exact_at(&mut message, *offset).ok()?;
                Some(message.into())
            }
        }
    }

    pub(super) fn remove(&mut self, waiting: &Waiting) {
        match waiting {
            Waiting::Memory(message) => self.in_memory -= message.len(),
            Waiting::File { offset, length } => {
                self.in_file -= 1;
                // New results are added at the end, and there may always be some.
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                if let Some(file) = &self.file {
                    // Not every file system can do that.
                    let _ = fallocate(file, flags, *offset, room(*length));
                }
                if self.in_file == 0
                    && let Some(file) = &self.file
                    && file.set_len(0).is_ok()
                {
                    self.length = 0;
                }
            }
        }
    }
}

/// The room of a result in the file: whole blocks, since only these can be given back.
fn room(length: usize) -> u64 {
    (length as u64).next_multiple_of(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_the_memory_is_in_the_file_until_it_is_removed() {
        let mut buffer = Buffer::new(std::env::temp_dir());
        let message = |byte: u8| vec![byte; MEMORY_MAX / 2];
        let waiting: Vec<_> = (0..5).map(|byte| buffer.put(message(byte))).collect();
        let in_file = waiting
            .iter()
            .filter(|it| matches!(it, Waiting::File { .. }));
        assert_eq!(in_file.count(), 3);
        // What is removed takes no room, though another one is behind it.
        let blocks = |buffer: &Buffer| {
            let file = buffer.file.as_ref().expect("there is one");
            std::os::unix::fs::MetadataExt::blocks(&file.metadata().expect("it is open"))
        };
        let before = blocks(&buffer);
        let first = buffer.put(message(5));
        let last = buffer.put(message(6));
        buffer.remove(&first);
        assert!(blocks(&buffer) <= before + MEMORY_MAX as u64 / 2 / 512);
        buffer.remove(&last);
        for (byte, waiting) in (0..).zip(&waiting) {
            assert_eq!(buffer.get(waiting).as_deref(), Some(&message(byte)[..]));
        }
        waiting.iter().for_each(|waiting| buffer.remove(waiting));
        assert_eq!((buffer.in_memory, buffer.in_file, buffer.length), (0, 0, 0));
    }
}
