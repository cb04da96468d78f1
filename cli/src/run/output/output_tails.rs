//! The ends of what running jobs have written, for a report of their failures (`--junit`).

use std::collections::HashMap;

use crate::run::output_tail::{OutputTail, Tail};
use crate::run::stream_id::StreamId;

/// The output of running jobs, by the first stream of an attempt.
#[derive(Debug, Default)]
pub(super) struct OutputTails(HashMap<StreamId, OutputTail>);

impl OutputTails {
    /// Begins to keep the output of a job.
    pub(super) fn add(&mut self, job: u64, attempt: u32) {
        let [first, _] = StreamId::both(job, attempt);
        self.0.insert(first, OutputTail::default());
    }

    /// Adds output. What a process writes after the end of its job is not kept.
    pub(super) fn push(&mut self, stream_id: StreamId, bytes: &[u8]) {
        if let Some(tail) = self.0.get_mut(&stream_id.first()) {
            tail[stream_id.stream].push(bytes);
        }
    }

    /// Returns the output of a job, and keeps no more of it.
    pub(super) fn take(&mut self, job: u64, attempt: u32) -> Option<OutputTail> {
        let [first, _] = StreamId::both(job, attempt);
        let mut tail = self.0.remove(&first)?;
        tail.iter_mut().for_each(Tail::finish);
        Some(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::output_tail::TAIL_MAX;

    #[test]
    fn the_end_is_kept_and_the_rest_is_counted() {
        let mut tails = OutputTails::default();
        let [out, err] = StreamId::both(1, 1);
        tails.push(out, b"no job is known");
        tails.add(1, 1);
        for _ in 0..10_000 {
            tails.push(out, b"0123456789");
        }
        tails.push(err, b"error");
        tails.push(StreamId::new(1, 2, 1), b"of another attempt");
        let [out, err] = tails.take(1, 1).expect("it was added");
        assert_eq!(out.len(), TAIL_MAX);
        assert_eq!(out.omitted(), 100_000 - TAIL_MAX as u64);
        assert!(out.bytes().ends_with(b"0123456789"));
        assert_eq!((err.bytes(), err.omitted()), (&b"error"[..], 0));
        assert!(tails.take(1, 1).is_none());
    }

    #[test]
    fn no_part_of_a_character_is_kept() {
        let mut tails = OutputTails::default();
        tails.add(1, 1);
        tails.push(StreamId::new(1, 1, 0), "€".repeat(TAIL_MAX).as_bytes());
        let [out, _] = tails.take(1, 1).expect("it was added");
        assert!(std::str::from_utf8(out.bytes()).is_ok());
        assert_eq!(out.omitted() + out.len() as u64, 3 * TAIL_MAX as u64);
    }
}
