//! The ends of what running jobs have written, for `--report`, `--watch` and `--junit`.

use std::collections::HashMap;

use crate::run::output_tail::{AttemptTail, TOGETHER_MAX, Tail};
use crate::run::stream_id::StreamId;

/// The output of running jobs, by the first stream of an attempt. An attempt has an entry from its
/// start until its end, so what processes write that it left in the background is not kept for
/// longer.
#[derive(Debug)]
pub(crate) struct OutputTails {
    tails: HashMap<StreamId, AttemptTail>,
    streams: Option<usize>,
    together: bool,
}

impl OutputTails {
    /// `streams` and `together`: which tails are wanted, and how many bytes of each stream. `None` if
    /// there are none.
    pub(crate) fn new(streams: Option<usize>, together: bool) -> Option<Self> {
        (streams.is_some() || together).then(|| Self {
            tails: HashMap::new(),
            streams,
            together,
        })
    }

    /// Begins to keep the output of an attempt.
    pub(super) fn begin(&mut self, job: u64, attempt: u32) {
        let tail = AttemptTail {
            streams: self.streams.map(|max| [Tail::new(max), Tail::new(max)]),
            together: self.together.then(|| Tail::new(TOGETHER_MAX)),
        };
        self.tails.insert(first(job, attempt), tail);
    }

    /// Adds output. What a process writes after the end of its job is not kept.
    pub(super) fn push(&mut self, stream_id: StreamId, bytes: &[u8]) {
        let Some(tail) = self.tails.get_mut(&stream_id.first()) else {
            return;
        };
        if let Some(streams) = &mut tail.streams {
            streams[stream_id.stream].push(bytes);
        }
        if let Some(together) = &mut tail.together {
            together.push(bytes);
        }
    }

    /// The last line that a running job wrote, without escape sequences.
    pub(super) fn last_line(&self, job: u64, attempt: u32) -> Option<String> {
        let tail = self.tails.get(&first(job, attempt))?;
        let line = tail.together.as_ref()?.last_line()?;
        let line = String::from_utf8_lossy(line);
        Some(anstream::adapter::strip_str(&line).to_string())
    }

    /// Returns the output of an attempt that has ended, and keeps no more of it.
    pub(super) fn take(&mut self, job: u64, attempt: u32) -> Option<AttemptTail> {
        let mut tail = self.tails.remove(&first(job, attempt))?;
        tail.finish();
        Some(tail)
    }
}

fn first(job: u64, attempt: u32) -> StreamId {
    let [first, _] = StreamId::both(job, attempt);
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::output_tail::STREAM_MAX;

    fn both() -> OutputTails {
        OutputTails::new(Some(STREAM_MAX), true).expect("tails are wanted")
    }

    #[test]
    fn the_end_is_kept_and_the_rest_is_counted() {
        let mut tails = both();
        let [out, err] = StreamId::both(1, 1);
        tails.push(out, b"no job is known");
        tails.begin(1, 1);
        for _ in 0..10_000 {
            tails.push(out, b"0123456789");
        }
        tails.push(err, b"error");
        tails.push(StreamId::new(1, 2, 1), b"of another attempt");
        let tail = tails.take(1, 1).expect("it was added");
        let [out, err] = tail.streams.expect("they are wanted");
        assert_eq!(out.len(), STREAM_MAX);
        assert_eq!(out.omitted(), 100_000 - STREAM_MAX as u64);
        assert!(out.bytes().ends_with(b"0123456789"));
        assert_eq!((err.bytes(), err.omitted()), (&b"error"[..], 0));
        let together = tail.together.expect("it is wanted");
        assert_eq!(together.len(), TOGETHER_MAX);
        assert_eq!(together.omitted(), 100_005 - TOGETHER_MAX as u64);
        assert!(together.bytes().ends_with(b"0123456789error"));
        assert!(tails.take(1, 1).is_none());
    }

    #[test]
    fn the_last_attempt_has_a_tail_of_its_own() {
        let mut tails = both();
        tails.begin(7, 1);
        tails.push(StreamId::new(7, 1, 0), b"first\n");
        assert_eq!(tails.last_line(7, 1).as_deref(), Some("first"));
        assert!(tails.take(7, 1).is_some());
        tails.begin(7, 2);
        tails.push(StreamId::new(7, 1, 0), b"from the background\n");
        assert_eq!(tails.last_line(7, 2), None);
        tails.push(StreamId::new(7, 2, 1), b"second\n\n");
        assert_eq!(tails.last_line(7, 2).as_deref(), Some("second"));
    }

    #[test]
    fn no_part_of_a_character_is_kept() {
        let mut tails = both();
        tails.begin(1, 1);
        tails.push(StreamId::new(1, 1, 0), "€".repeat(STREAM_MAX).as_bytes());
        let tail = tails.take(1, 1).expect("it was added");
        let [out, _] = tail.streams.expect("they are wanted");
        for (tail, max) in [
            (&out, STREAM_MAX),
            (&tail.together.expect("one"), TOGETHER_MAX),
        ] {
            assert!(std::str::from_utf8(tail.bytes()).is_ok());
            assert!(tail.len() > max - 3);
            assert_eq!(tail.omitted() + tail.len() as u64, 3 * STREAM_MAX as u64);
        }
    }

    #[test]
    fn only_what_is_wanted_is_kept() {
        assert!(OutputTails::new(None, false).is_none());
        let mut tails = OutputTails::new(None, true).expect("tails are wanted");
        tails.begin(1, 1);
        tails.push(StreamId::new(1, 1, 0), b"x");
        let tail = tails.take(1, 1).expect("it was added");
        assert!(tail.streams.is_none() && tail.together.is_some());
    }
}
