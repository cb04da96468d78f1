//! Output in the order of the list (`--keep-order`).
//!
//! The first job of the list that has not ended is the head. What it writes is forwarded at once.
//! What other jobs write waits in memory, and beyond a limit in a file.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use roaring::RoaringTreemap;

use super::spool::{Block, Spool};
use super::submitted_jobs::SubmittedJobs;

/// Stands for a stream: the record of the job for the job log, which follows its output.
pub(super) const RECORD: usize = 2;

/// How much output waits in memory.
const HELD_MAX: usize = 4 * 1024 * 1024;
/// How much output of one job waits in memory.
const HELD_OF_JOB_MAX: usize = 256 * 1024;
/// The memory of a job without its output.
const HELD_JOB_COST: usize = 128;

pub(crate) struct KeepOrder {
    submitted: Arc<SubmittedJobs>,
    /// The head. `None`: it is not known, or there is none.
    head: Option<u64>,
    /// All that waited of the head was forwarded.
    head_is_live: bool,
    /// Output in memory. It comes after that in the file.
    held: HashMap<u64, Held>,
    held_bytes: usize,
    spool: Option<Spool>,
    /// Jobs that have ended and whose output waits.
    ended: RoaringTreemap,
    failure: Option<io::Error>,
    /// Output that would have to wait is discarded, because the file could not be used.
    failed: bool,
    /// Jobs some of whose output was discarded.
    lost: RoaringTreemap,
    /// Jobs whose records wait.
    recorded: RoaringTreemap,
}

/// The output of one job in memory.
#[derive(Default)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    /// The streams that wrote it, with the number of bytes.
    parts: Vec<(usize, usize)>,
}

/// The next output in the order of the list.
pub(crate) enum Next {
    /// Output of this job.
    Output(u64, Held),
    /// This job is the head, and all that waited of it was returned.
    Live(u64),
    /// The head runs, or there is none.
    None,
}

impl Held {
    /// What the streams wrote, in the order in which they did.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut start = 0;
        self.parts.iter().map(move |&(stream, length)| {
            start += length;
            (stream, &self.bytes[start - length..start])
        })
    }

    fn cost(&self) -> usize {
        self.bytes.len() + self.parts.len() * size_of::<(usize, usize)>() + HELD_JOB_COST
    }
}

impl From<Block> for Held {
    fn from(Block { stream, bytes }: Block) -> Self {
        Self {
            parts: vec![(stream, bytes.len())],
            bytes,
        }
    }
}

impl KeepOrder {
    pub(crate) fn new(submitted: Arc<SubmittedJobs>) -> Self {
        Self {
            submitted,
            head: None,
            head_is_live: false,
            held: HashMap::new(),
            held_bytes: 0,
            spool: None,
            ended: RoaringTreemap::new(),
            failure: None,
            failed: false,
            lost: RoaringTreemap::new(),
            recorded: RoaringTreemap::new(),
        }
    }

    /// Whether output of this job is forwarded at once: it is the head, or a process that a job
    /// left in the background writes after the job's turn.
    pub(crate) fn is_live(&mut self, job: u64) -> bool {
        match self.find_head() {
            Some(head) if job == head => self.head_is_live,
            // Jobs leave the list in its order.
            Some(head) => job < head,
            None => true,
        }
    }

    /// Whether the turn of a job is over.
    pub(crate) fn is_past(&mut self, job: u64) -> bool {
        self.find_head().is_none_or(|head| job < head)
    }

    fn find_head(&mut self) -> Option<u64> {
        if self.head.is_none() {
            // Jobs that are submitted later have higher numbers, so the head stays the head.
            self.head = self.submitted.first();
            self.head_is_live = self.head.is_some_and(|head| !self.has_waiting(head));
        }
        self.head
    }

    /// Whether output of a job waits.
    pub(super) fn has_waiting(&self, job: u64) -> bool {
        let in_file = self.spool.as_ref().is_some_and(|spool| spool.has(job));
        in_file || self.held.contains_key(&job)
    }

    /// Stores what a job that is not live writes to a stream.
    pub(crate) fn store(&mut self, job: u64, stream: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if self.failed {
            self.lost.insert(job);
            return write(&mut Vec::new());
        }
        let held = self.held.entry(job).or_default();
        let before = match held.bytes.is_empty() {
            true => 0,
            false => held.cost(),
        };
        let start = held.bytes.len();
        write(&mut held.bytes);
        let length = held.bytes.len() - start;
        match held.parts.last_mut() {
            Some((last, bytes)) if *last == stream => *bytes += length,
            _ => held.parts.push((stream, length)),
        }
        if held.bytes.is_empty() {
            self.held.remove(&job);
            return;
        }
        let cost = held.cost();
        self.held_bytes = self.held_bytes + cost - before;
        if (cost > HELD_OF_JOB_MAX || self.held_bytes > HELD_MAX)
            && let Err(error) = self.spill(job)
        {
            self.fail(error);
            self.lost.insert(job);
        }
    }

    /// Stores the record of a job whose output waits.
    pub(super) fn store_record(&mut self, job: u64, record: &[u8]) {
        self.recorded.insert(job);
        self.store(job, RECORD, |to| to.extend_from_slice(record));
    }

    /// The record of a job was returned.
    pub(super) fn forward_record(&mut self, job: u64) {
        self.recorded.remove(job);
    }

    /// The jobs whose records wait, or were discarded.
    pub(super) fn recorded(&self) -> impl Iterator<Item = u64> {
        self.recorded.iter()
    }

    /// Whether output of a job was discarded.
    pub(super) fn is_lost(&self, job: u64) -> bool {
        self.lost.contains(job)
    }

    /// Moves the output of a job to the file.
    fn spill(&mut self, job: u64) -> io::Result<()> {
        let spool = match &mut self.spool {
            Some(spool) => spool,
            none => none.insert(Spool::new()?),
        };
        if let Some(held) = self.held.remove(&job) {
            self.held_bytes -= held.cost();
            spool.append(job, held.parts())?;
        }
        Ok(())
    }

    /// Discards output that would have to wait from now on. What waits is forwarded.
    fn fail(&mut self, error: io::Error) {
        self.failure = Some(error);
        self.failed = true;
    }

    /// Why output had to be discarded, once.
    pub(crate) fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Records that a job has ended and was reported.
    pub(crate) fn end_job(&mut self, job: u64) {
        self.ended.insert(job);
    }

    /// The next output in the order of the list. With `may_advance`, jobs that have ended leave the
    /// list.
    pub(crate) fn next(&mut self, may_advance: bool) -> Next {
        loop {
            let Some(head) = self.find_head() else {
                return Next::None;
            };
            if !self.head_is_live {
                match self.spool.as_mut().map(|spool| spool.take(head)) {
                    Some(Ok(Some(block))) => return Next::Output(head, block.into()),
                    Some(Err(error)) => {
                        if let Some(spool) = self.spool.take() {
                            self.lost |= spool.jobs();
                        }
                        self.fail(error);
                    }
                    Some(Ok(None)) | None => {}
                }
                if let Some(held) = self.held.remove(&head) {
                    self.held_bytes -= held.cost();
                    return Next::Output(head, held);
                }
                self.head_is_live = true;
                return Next::Live(head);
            }
            if !may_advance || !self.ended.remove(head) {
                return Next::None;
            }
            self.submitted.remove(head);
            self.head = None;
        }
    }

    /// Ends the list: the jobs whose output waits have ended or will not end, and there are no
    /// others.
    pub(crate) fn end_list(&mut self) {
        let mut waiting: RoaringTreemap = self.held.keys().copied().collect();
        if let Some(spool) = &self.spool {
            waiting |= spool.jobs();
        }
        self.submitted.replace(waiting.clone());
        self.ended = waiting;
        self.head = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(jobs: &[u64]) -> KeepOrder {
        let submitted = SubmittedJobs::default();
        submitted.add(jobs.iter().copied());
        KeepOrder::new(Arc::new(submitted))
    }

    /// Forwards all that can be forwarded, as one text for each stream.
    fn forward(order: &mut KeepOrder, texts: &mut [String; 2]) {
        loop {
            match order.next(true) {
                Next::Output(_, held) => {
                    for (stream, bytes) in held.parts() {
                        texts[stream] += std::str::from_utf8(bytes).expect("UTF-8");
                    }
                }
                Next::Live(_) => {}
                Next::None => return,
            }
        }
    }

    fn write(order: &mut KeepOrder, texts: &mut [String; 2], job: u64, stream: usize, text: &str) {
        match order.is_live(job) {
            true => texts[stream] += text,
            false => order.store(job, stream, |bytes| bytes.extend(text.bytes())),
        }
        forward(order, texts);
    }

    #[test]
    fn output_is_in_the_order_of_the_list() {
        let (mut order, mut texts) = (order(&[2, 5, 8]), [String::new(), String::new()]);
        write(&mut order, &mut texts, 8, 0, "8 ");
        write(&mut order, &mut texts, 5, 1, "e5 ");
        write(&mut order, &mut texts, 5, 0, "5 ");
        write(&mut order, &mut texts, 2, 0, "2 ");
        assert_eq!(texts, ["2 ", ""]);
        order.end_job(8);
        order.end_job(2);
        forward(&mut order, &mut texts);
        assert_eq!(texts, ["2 5 ", "e5 "]);
        // A background process of a job whose turn is over, one of the head, and one that waits.
        write(&mut order, &mut texts, 2, 0, "late2 ");
        write(&mut order, &mut texts, 8, 0, "late8 ");
        write(&mut order, &mut texts, 5, 0, "5b ");
        order.end_job(5);
        forward(&mut order, &mut texts);
        assert_eq!(texts, ["2 5 late2 5b 8 late8 ", "e5 "]);
        assert_eq!(order.held_bytes, 0);
    }

    #[test]
    fn more_output_than_fits_memory_waits_in_a_file() {
        let jobs: Vec<u64> = (1..=400).collect();
        let (mut order, mut texts) = (order(&jobs), [String::new(), String::new()]);
        let text = |job: u64| format!("{job:09}\n").repeat(10_000);
        for &job in jobs[1..].iter().rev() {
            for part in [text(job), text(job)] {
                write(&mut order, &mut texts, job, 0, &part);
            }
            assert!(order.held_bytes <= HELD_MAX);
            order.end_job(job);
        }
        assert!(order.spool.is_some());
        assert_eq!(texts[0], "");
        write(&mut order, &mut texts, 1, 0, &text(1).repeat(2));
        order.end_job(1);
        forward(&mut order, &mut texts);
        let expected: String = jobs.iter().map(|&job| text(job).repeat(2)).collect();
        assert!(texts[0] == expected);
        assert_eq!(order.held_bytes, 0);
    }

    #[test]
    fn what_waits_at_the_end_is_in_the_order_of_the_list() {
        let (mut order, mut texts) = (order(&[1, 2, 3]), [String::new(), String::new()]);
        write(&mut order, &mut texts, 3, 0, "3 ");
        write(&mut order, &mut texts, 2, 0, "2 ");
        order.end_job(2);
        order.end_list();
        forward(&mut order, &mut texts);
        assert_eq!(texts[0], "2 3 ");
    }
}
