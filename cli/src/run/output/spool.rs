//! Output that waits, in an unlinked temporary file.
//!
//! The output of a job is a chain of blocks. A second file has the ends of each chain, so memory
//! does not grow with the number of jobs. Space is freed as the output is taken.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use roaring::RoaringTreemap;
use rustix::fs::{FallocateFlags, fallocate};

/// Blocks are written together up to this size. A block is not larger either.
const GROUP_MAX: usize = 1024 * 1024;
/// Space is freed by regions of this size. No group of blocks belongs to two of them.
const REGION: u64 = 4 * GROUP_MAX as u64;
/// The next block (0: none), the length, and the stream.
const HEADER: usize = 8 + 4 + 1;

/// The first and the last block of a chain.
type Ends = [u64; 2];

pub(super) struct Spool {
    blocks: File,
    /// The ends of the chain of each job, by its number.
    index: File,
    /// Jobs with a block.
    jobs: RoaringTreemap,
    /// Where the next block is written. No block is at 0.
    end: u64,
    /// The number of blocks in each region that were not taken yet.
    left: Vec<u64>,
}

/// A block that was taken.
pub(super) struct Block {
    pub(super) stream: usize,
    pub(super) bytes: Vec<u8>,
}

impl Spool {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            blocks: tempfile::tempfile()?,
            index: tempfile::tempfile()?,
            jobs: RoaringTreemap::new(),
            end: 1,
            left: Vec::new(),
        })
    }

    /// Whether a job has output here.
    pub(super) fn has(&self, job: u64) -> bool {
        self.jobs.contains(job)
    }

    pub(super) fn jobs(&self) -> &RoaringTreemap {
        &self.jobs
    }

    /// Appends to the output of a job. Each part is what one stream wrote.
    pub(super) fn append<'a>(
        &mut self,
        job: u64,
        parts: impl Iterator<Item = (usize, &'a [u8])>,
    ) -> io::Result<()> {
        let blocks = parts.flat_map(|(stream, bytes)| {
            bytes
                .chunks(GROUP_MAX - HEADER)
                .map(move |bytes| (stream, bytes))
        });
        let (mut group, mut last) = (Vec::new(), 0);
        for (stream, bytes) in blocks {
            if group.len() + HEADER + bytes.len() > GROUP_MAX {
                self.write_group(job, &mut group, last)?;
            }
            if !group.is_empty() {
                // Blocks of a group refer to one another by their places in it.
                let next = group.len() as u64;
                group[last..last + 8].copy_from_slice(&next.to_ne_bytes());
            }
            last = group.len();
            group.extend(0_u64.to_ne_bytes());
            group.extend((bytes.len() as u32).to_ne_bytes());
            group.push(stream as u8);
            group.extend(bytes);
        }
        self.write_group(job, &mut group, last)
    }

    /// Writes blocks, the last of which is at `last`, and adds them to the chain of the job.
    fn write_group(&mut self, job: u64, group: &mut Vec<u8>, last: usize) -> io::Result<()> {
        if group.is_empty() {
            return Ok(());
        }
        if self.end / REGION != (self.end + group.len() as u64 - 1) / REGION {
            let full = (self.end / REGION) as usize;
            self.end = self.end.next_multiple_of(REGION);
            // Its blocks may have been taken while it was the current region.
            if self.left.get(full) == Some(&0) {
                self.punch(full);
            }
        }
        let start = self.end;
        let mut count = 0;
        let mut at = 0;
        loop {
            count += 1;
            let next = u64_at(group, at);
            if next == 0 {
                break;
            }
            group[at..at + 8].copy_from_slice(&(start + next).to_ne_bytes());
            at = next as usize;
        }
        self.blocks.write_all_at(group, start)?;
        // Counted before they are linked: if that fails, they may be taken all the same.
        let region = (start / REGION) as usize;
        if self.left.len() <= region {
            self.left.resize(region + 1, 0);
        }
        self.left[region] += count;
        self.end += group.len() as u64;
        let mut ends = [start, start + last as u64];
        if self.has(job) {
            let [first, before] = self.ends(job)?;
            self.blocks.write_all_at(&start.to_ne_bytes(), before)?;
            ends[0] = first;
        }
        self.set_ends(job, ends)?;
        self.jobs.insert(job);
        group.clear();
        Ok(())
    }

    /// Takes the first block of a job. `None`: it has no more.
    pub(super) fn take(&mut self, job: u64) -> io::Result<Option<Block>> {
        if !self.has(job) {
            return Ok(None);
        }
        let [first, last] = self.ends(job)?;
        let mut header = [0; HEADER];
        self.blocks.read_exact_at(&mut header, first)?;
        let length = u32::from_ne_bytes(header[8..12].try_into().unwrap_or_default());
        let mut bytes = vec![0; length as usize];
        self.blocks
            .read_exact_at(&mut bytes, first + HEADER as u64)?;
        match u64_at(&header, 0) {
            0 => {
                self.jobs.remove(job);
            }
            next => self.set_ends(job, [next, last])?,
        }
        self.free((first / REGION) as usize)?;
        Ok(Some(Block {
            stream: usize::from(header[12]),
            bytes,
        }))
    }

    /// Frees the space of a block that was taken.
    fn free(&mut self, region: usize) -> io::Result<()> {
        if self.jobs.is_empty() {
            self.end = 1;
            self.left.clear();
            self.index.set_len(0)?;
            return self.blocks.set_len(0);
        }
        self.left[region] -= 1;
        if self.left[region] == 0 && region as u64 != self.end / REGION {
            self.punch(region);
        }
        Ok(())
    }

    /// Frees the space of a region of which no block is left.
    fn punch(&self, region: usize) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Not every file system can free a part of a file.
        let _ = fallocate(&self.blocks, flags, region as u64 * REGION, REGION);
    }

    fn ends(&self, job: u64) -> io::Result<Ends> {
        let mut bytes = [0; 16];
        self.index.read_exact_at(&mut bytes, job * 16)?;
        Ok([u64_at(&bytes, 0), u64_at(&bytes, 8)])
    }

    fn set_ends(&self, job: u64, ends: Ends) -> io::Result<()> {
        let bytes = [ends[0].to_ne_bytes(), ends[1].to_ne_bytes()].concat();
        self.index.write_all_at(&bytes, job * 16)
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes
        .get(at..at + 8)
        .and_then(|bytes| bytes.try_into().ok());
    u64::from_ne_bytes(bytes.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn take_all(spool: &mut Spool, job: u64) -> [Vec<u8>; 2] {
        let mut all = [Vec::new(), Vec::new()];
        while let Some(block) = spool.take(job).expect("readable") {
            all[block.stream].extend(block.bytes);
        }
        all
    }

    #[test]
    fn output_is_taken_in_the_order_in_which_it_was_appended() {
        let mut spool = Spool::new().expect("a file");
        for round in 0..3_u8 {
            for job in [7, 3, 1 << 30] {
                let parts = [
                    (0, &[round; 10][..]),
                    (1, &[job as u8; 3]),
                    (0, &[]),
                    (0, &[9; 5]),
                ];
                spool.append(job, parts.into_iter()).expect("written");
            }
        }
        for job in [3, 1 << 30, 7] {
            let [out, err] = take_all(&mut spool, job);
            let round = |round: u8| [vec![round; 10], vec![9; 5]].concat();
            assert_eq!(out, [round(0), round(1), round(2)].concat());
            assert_eq!(err, [job as u8; 9]);
            assert!(!spool.has(job));
        }
        assert_eq!(spool.blocks.metadata().expect("open").len(), 0);
    }

    #[test]
    fn large_output_keeps_its_bytes_and_its_space_is_freed() {
        let mut spool = Spool::new().expect("a file");
        let bytes: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 251) as u8).collect();
        spool
            .append(1, [(0, &bytes[..])].into_iter())
            .expect("written");
        spool
            .append(2, [(0, &b"x"[..])].into_iter())
            .expect("written");
        spool
            .append(1, [(0, &b"end"[..])].into_iter())
            .expect("written");
        let used = |spool: &Spool| spool.blocks.metadata().expect("open").blocks() * 512;
        let before = used(&spool);
        let [out, _] = take_all(&mut spool, 1);
        assert!(out == [&bytes[..], b"end"].concat());
        assert!(used(&spool) <= before.min(2 * REGION), "{}", used(&spool));
        assert_eq!(take_all(&mut spool, 2)[0], b"x");
        assert_eq!(used(&spool), 0);
    }

    #[test]
    fn the_space_of_a_region_is_freed_that_was_taken_before_it_was_full() {
        let mut spool = Spool::new().expect("a file");
        let append = |spool: &mut Spool, job, bytes: &[u8]| {
            let parts = [(0, bytes)].into_iter();
            spool.append(job, parts).expect("written");
        };
        let used = |spool: &Spool| spool.blocks.metadata().expect("open").blocks() * 512;
        append(&mut spool, 1, b"stays");
        // Four groups fit into a region, and these end in the second one.
        let group = vec![b'x'; 900_000];
        for _ in 0..8 {
            append(&mut spool, 2, &group);
        }
        take_all(&mut spool, 2);
        let before = used(&spool);
        append(&mut spool, 3, &group);
        assert_eq!(spool.left, [1, 0, 1]);
        assert!(used(&spool) < before, "{} of {before}", used(&spool));
    }
}
