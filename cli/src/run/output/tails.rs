//! The last bytes that each running job has written (`--report`, `--watch`).

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::pipes::Pipes;
use crate::run::report::html::collector::OUTPUT_MAX;
use crate::run::stream_id::StreamId;

/// By job. A job has an entry from its start until its end is reported, so what processes write
/// that it left in the background is not kept for longer.
#[derive(Debug, Default)]
pub(crate) struct Tails(HashMap<u64, Tail>);

#[derive(Debug)]
struct Tail {
    attempt: u32,
    /// Up to twice `OUTPUT_MAX`, so that few writes move the rest.
    bytes: Vec<u8>,
}

impl Tails {
    /// An attempt has started.
    pub(super) fn begin(&mut self, job: u64, attempt: u32) {
        let bytes = Vec::new();
        self.0.insert(job, Tail { attempt, bytes });
    }

    /// Adds what an attempt has written to one of its streams.
    pub(super) fn add(&mut self, stream_id: StreamId, bytes: &[u8]) {
        let Some(tail) = self.0.get_mut(&stream_id.job) else {
            return;
        };
        // An earlier attempt may have left a process in the background.
        if !StreamId::both(stream_id.job, tail.attempt).contains(&stream_id) {
            return;
        }
        tail.bytes
            .extend_from_slice(&bytes[bytes.len().saturating_sub(OUTPUT_MAX)..]);
        if tail.bytes.len() > 2 * OUTPUT_MAX {
            tail.bytes.drain(..tail.bytes.len() - OUTPUT_MAX);
        }
    }

    /// The last line of an attempt that is not blank, or the end of it.
    fn last_line(&self, job: u64) -> Option<&[u8]> {
        let bytes = &self.0.get(&job)?.bytes;
        let mut lines = bytes.rsplit(|&byte| byte == b'\n' || byte == b'\r');
        lines.find(|line| !line.trim_ascii().is_empty())
    }

    /// Ends an attempt. Returns the last bytes that it wrote, up to `OUTPUT_MAX`.
    fn end(&mut self, job: u64) -> Option<Vec<u8>> {
        let mut bytes = self.0.remove(&job)?.bytes;
        bytes.drain(..bytes.len().saturating_sub(OUTPUT_MAX));
        Some(bytes)
    }
}

impl Pipes {
    /// The last line that a running job wrote, without escape sequences.
    pub(crate) fn last_line(&self, job: u64) -> Option<String> {
        let line = self.tails.as_ref()?.last_line(job)?;
        let line = String::from_utf8_lossy(line);
        Some(anstream::adapter::strip_str(&line).to_string())
    }

    /// Ends an attempt. Returns what it wrote last, if that is wanted and went through pipes.
    pub(crate) fn end_tail(&mut self, job: u64) -> Option<Vec<u8>> {
        self.tails.as_mut()?.end(job)
    }
}

/// The last bytes of the files of a job: half of `OUTPUT_MAX` of each. Files that do not exist, or
/// cannot be read, have none.
pub(super) fn of_files(paths: &[impl AsRef<Path>; 2]) -> Vec<u8> {
    let read = |path: &Path| -> io::Result<Vec<u8>> {
        let max = OUTPUT_MAX as u64 / 2;
        // The job may have put a FIFO there, whose opening would block.
        if !fs::symlink_metadata(path)?.is_file() {
            return Ok(Vec::new());
        }
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(max)))?;
        let mut bytes = Vec::new();
        // The file may be growing.
        file.take(max).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let of_both = paths
        .iter()
        .map(|path| read(path.as_ref()).unwrap_or_default());
    of_both.collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(tails: &mut Tails, attempt: u32, bytes: &[u8]) {
        tails.add(StreamId::both(7, attempt)[0], bytes);
    }

    #[test]
    fn the_last_bytes_of_the_last_attempt_are_kept() {
        let mut tails = Tails::default();
        write(&mut tails, 1, b"not started");
        tails.begin(7, 1);
        write(&mut tails, 1, b"first");
        tails.begin(7, 2);
        write(&mut tails, 1, b"from the background");
        let all: Vec<u8> = (0..50_000_u32).map(|number| number as u8).collect();
        for part in all.chunks(1000) {
            write(&mut tails, 2, part);
        }
        assert_eq!(tails.end(7).unwrap(), all[all.len() - OUTPUT_MAX..]);
        write(&mut tails, 2, b"late");
        assert_eq!(tails.end(7), None);
        tails.begin(7, 1);
        write(&mut tails, 1, &all);
        assert_eq!(tails.end(7).unwrap(), all[all.len() - OUTPUT_MAX..]);
    }
}
