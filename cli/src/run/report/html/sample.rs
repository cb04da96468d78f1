//! The attempts that the timeline shows.
//!
//! Up to a number it shows all of them. Beyond that it shows all failures that fit, and a sample of
//! the rest, in which an attempt is with a probability that grows with its run time (the algorithm
//! A-ES of Efraimidis and Spirakis). So the sample looks like the whole: long attempts are in it,
//! and short ones as densely as they ran.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;

use serde::Serialize;
use serde::ser::{SerializeTuple, Serializer};

use super::collector::EndKind;
use crate::run::report::record::Record;

const ATTEMPTS_MAX: usize = 20_000;

pub(super) struct Sample {
    max: usize,
    /// The one with the lowest priority first.
    kept: BinaryHeap<ShownAttempt>,
    added: u64,
}

impl Default for Sample {
    fn default() -> Self {
        Self::new(ATTEMPTS_MAX)
    }
}

impl Sample {
    fn new(max: usize) -> Self {
        Self {
            max,
            kept: BinaryHeap::new(),
            added: 0,
        }
    }

    /// Adds an attempt. `texts` returns its name and its result, and is called only if it is kept.
    pub(super) fn add(
        &mut self,
        record: &Record<'_>,
        start: u64,
        wall: u64,
        kind: EndKind,
        is_failure: bool,
        texts: impl FnOnce() -> (String, String),
    ) {
        self.added += 1;
        let rank = Rank {
            is_failure,
            key: key(self.added, wall),
        };
        if self.kept.len() >= self.max {
            if self.kept.peek().is_none_or(|lowest| rank < lowest.rank) {
                return;
            }
            self.kept.pop();
        }
        let (name, result) = texts();
        self.kept.push(ShownAttempt {
            rank,
            slot: record.slot,
            start,
            wall,
            kind,
            job: record.job,
            attempt: record.attempts,
            name,
            result,
            slow: record.slow,
            repeat: record.repeat.map_or(0, NonZeroU32::get),
        });
    }

    /// How many attempts were added.
    pub(super) fn added(&self) -> u64 {
        self.added
    }

    /// How many the timeline shows.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn attempts(&self) -> impl Iterator<Item = &ShownAttempt> {
        self.kept.iter()
    }
}

/// The key of an attempt in the sample: the logarithm of u^(1/weight), with u from 0 to 1. The
/// highest keys are kept.
fn key(number: u64, wall: u64) -> f64 {
    let hash = twox_hash::XxHash3_64::oneshot(&number.to_ne_bytes());
    // 53 bits, and never 0.
    let u = ((hash >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    u.ln() / (wall.max(1) as f64)
}

#[derive(Clone, Copy, Debug)]
struct Rank {
    is_failure: bool,
    key: f64,
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Rank {}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_failure = self.is_failure.cmp(&other.is_failure);
        by_failure.then(self.key.total_cmp(&other.key))
    }
}

/// An attempt on the timeline. Times are in microseconds.
#[derive(Debug)]
pub(super) struct ShownAttempt {
    rank: Rank,
    slot: u32,
    start: u64,
    wall: u64,
    kind: EndKind,
    job: u64,
    attempt: u32,
    name: String,
    result: String,
    slow: bool,
    /// 0 without `--repeat`.
    repeat: u32,
}

impl PartialEq for ShownAttempt {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for ShownAttempt {}

impl PartialOrd for ShownAttempt {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ShownAttempt {
    /// The reverse of the rank: the heap has the lowest rank on top.
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank.cmp(&self.rank)
    }
}

/// An array, as the script of the page reads it. Field names would double its size.
impl Serialize for ShownAttempt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(10)?;
        tuple.serialize_element(&self.slot)?;
        tuple.serialize_element(&self.start)?;
        tuple.serialize_element(&self.wall)?;
        tuple.serialize_element(&(self.kind as u8))?;
        tuple.serialize_element(&self.job)?;
        tuple.serialize_element(&self.attempt)?;
        tuple.serialize_element(&self.name)?;
        tuple.serialize_element(match self.kind {
            EndKind::Succeeded => "",
            _ => &self.result,
        })?;
        tuple.serialize_element(&u8::from(self.slow))?;
        tuple.serialize_element(&self.repeat)?;
        tuple.end()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use jiff::Timestamp;

    use super::*;
    use crate::run::command_spec::CommandSpec;
    use crate::run::job::{Job, StartTime};
    use crate::run::start_error::StartError;

    fn sample_of(max: usize, walls: impl IntoIterator<Item = (u64, bool)>) -> Vec<(u64, u64)> {
        let mut sample = Sample::new(max);
        for ((wall, is_failure), number) in walls.into_iter().zip(1..) {
            let job = Job {
                number,
                attempt: 1,
                slot: 1,
                repeat: 0,
                slow: false,
                command: CommandSpec::Argv(vec!["true".into()]),
                details: None,
            };
            let start_time = StartTime {
                instant: Instant::now(),
                time: Timestamp::now(),
            };
            let record =
                Record::of_start_error(&job, start_time, StartError::not_found(String::new()));
            let kind = EndKind::Failed;
            sample.add(&record, 0, wall, kind, is_failure, Default::default);
        }
        let mut shown: Vec<_> = sample
            .attempts()
            .map(|shown| (shown.job, shown.wall))
            .collect();
        shown.sort_unstable();
        shown
    }

    #[test]
    fn all_are_shown_up_to_the_maximum() {
        let shown = sample_of(100, (0..100).map(|wall| (wall, false)));
        assert_eq!(shown.len(), 100);
    }

    #[test]
    fn failures_and_long_attempts_are_shown_and_short_ones_evenly() {
        let walls = (0..10_000).map(|number| match number {
            77 => (1, true),
            // As long as all the others together.
            5000 => (10_000_000, false),
            _ => (1000, false),
        });
        let shown = sample_of(1000, walls);
        assert_eq!(shown.len(), 1000);
        assert!(shown.contains(&(78, 1)) && shown.contains(&(5001, 10_000_000)));
        // Each tenth of the run has about 100. The hash is fixed, so this is not by chance.
        for tenth in 0..10 {
            let inside = shown.iter().filter(|(job, _)| (job - 1) / 1000 == tenth);
            let count = inside.count();
            assert!((70..=130).contains(&count), "{tenth}: {count}");
        }
    }
}
