//! The summary of the runs: medians, ranges, and ratios to the reference.
//!
//! The reference is the first contestant that made a run of the same size. If two builds are
//! compared, it is the same contestant of the other build.

use std::collections::BTreeMap;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bootstrap::Bootstrap;
use super::ratio::Ratio;
use crate::types::kind::Kind;
use crate::types::metric::Metric;
use crate::types::run::Run;

/// The runs of one contestant in one scenario.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Line {
    pub(crate) contestant: Kind,
    pub(crate) title: String,
    /// The name of the other build, if it made the runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) build: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) live: Option<u32>,
    pub(crate) rounds: usize,
    /// Ratios of other lines are to this line.
    pub(crate) is_reference: bool,
    pub(crate) metrics: BTreeMap<Metric, Spread>,
}

/// A metric over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// The value as a multiple of the reference's in the same round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<Ratio>,
}

/// The runs of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key<'a> {
    kind: Kind,
    build: Option<&'a str>,
    live: Option<u32>,
}

impl<'a> Key<'a> {
    fn of(run: &'a Run) -> Self {
        Self {
            kind: run.contestant,
            build: run.build.as_deref(),
            live: run.live,
        }
    }
}

/// What is summarized: the runs, and what decides about their references.
#[derive(Clone, Copy)]
pub(super) struct Runs<'a> {
    /// The contestants in their order.
    pub(super) contestants: &'a [Kind],
    /// The name of the other build, if there is one.
    pub(super) against: Option<&'a str>,
    pub(super) runs: &'a [Run],
}

impl<'a> Runs<'a> {
    /// One line per contestant, build and size. Lines are sorted by size, then in the order of the
    /// runs.
    pub(super) fn summarize(self) -> Vec<Line> {
        let mut keys: Vec<Key<'a>> = Vec::new();
        for run in self.runs {
            if !keys.contains(&Key::of(run)) {
                keys.push(Key::of(run));
            }
        }
        keys.sort_by_key(|key| key.live);
        let mut bootstrap = Bootstrap::default();
        let lines = keys.into_iter().map(|key| self.line(key, &mut bootstrap));
        lines.collect()
    }

    /// The ratio of each run to the run of its reference in the same round.
    pub(super) fn ratios(self, metric: Metric) -> Vec<Option<f64>> {
        let ratio = |run: &'a Run| {
            let reference = self.reference(Key::of(run))?;
            let of_round = |other: &&Run| other.round == run.round;
            ratio(metric, run, self.of(reference).find(of_round)?)
        };
        self.runs.iter().map(ratio).collect()
    }

    fn of(self, key: Key<'a>) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| Key::of(run) == key)
    }

    /// The runs that a line is compared with. They can be its own.
    fn reference(self, key: Key<'a>) -> Option<Key<'a>> {
        if self.against.is_some() {
            let build = self.against;
            return Some(Key { build, ..key });
        }
        let candidates = self.contestants.iter().map(|&kind| Key { kind, ..key });
        let mut present = candidates.filter(|&key| self.of(key).next().is_some());
        present.next()
    }

    fn line(self, key: Key<'a>, bootstrap: &mut Bootstrap) -> Line {
        let runs: Vec<_> = self.of(key).collect();
        let reference = self.reference(key);
        let is_reference = reference == Some(key);
        let of_reference: BTreeMap<u32, &Run> = reference
            .map(|key| self.of(key).map(|run| (run.round, run)).collect())
            .unwrap_or_default();
        let spread = |&metric: &Metric| {
            let values: Vec<_> = runs.iter().filter_map(|run| metric.of(run)).collect();
            let ratios = runs
                .iter()
                .filter_map(|run| ratio(metric, run, of_reference.get(&run.round)?));
            let ratios: Vec<_> = ratios.collect();
            let spread = Spread {
                median: median(values.clone())?,
                min: values.iter().copied().reduce(f64::min)?,
                max: values.iter().copied().reduce(f64::max)?,
                ratio: match is_reference && !ratios.is_empty() {
                    true => Some(Ratio::of_reference(ratios.len())),
                    false => Ratio::of(metric, ratios, bootstrap),
                },
            };
            Some((metric, spread))
        };
        Line {
            contestant: key.kind,
            title: runs
                .first()
                .map_or_else(String::new, |run| run.title.clone()),
            build: key.build.map(str::to_owned),
            live: key.live,
            rounds: runs.len(),
            is_reference,
            metrics: Metric::value_variants().iter().filter_map(spread).collect(),
        }
    }
}

/// The metric of a run as a multiple of the reference's.
fn ratio(metric: Metric, run: &Run, reference: &Run) -> Option<f64> {
    let (theirs, ours) = (metric.of(run)?, metric.of(reference)?);
    (ours > 0.0).then(|| theirs / ours)
}

pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (
        values.get(values.len().checked_sub(1)? / 2)?,
        values.get(values.len() / 2)?,
    );
    Some(f64::midpoint(*low, *high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::ratio::Verdict;

    fn run(contestant: Kind, round: u32, drain_ns: u64) -> Run {
        Run {
            contestant,
            round,
            drain_ns,
            title: contestant.name(),
            ..Run::default()
        }
    }

    fn runs<'a>(contestants: &'a [Kind], against: Option<&'a str>, runs: &'a [Run]) -> Runs<'a> {
        Runs {
            contestants,
            against,
            runs,
        }
    }

    fn drain(line: &Line) -> Ratio {
        let ratio = line.metrics[&Metric::Drain].ratio;
        ratio.expect("the reference is there")
    }

    #[test]
    fn the_median_of_an_even_number_of_values_is_their_midpoint() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
    }

    #[test]
    fn ratios_are_to_the_first_contestant_in_the_same_round() {
        let mut made = Vec::new();
        for (round, ours, theirs) in [(1, 100, 200), (2, 1000, 1000), (3, 100, 300)] {
            made.push(run(Kind::Tokio, round, theirs));
            made.push(run(Kind::Exitring, round, ours));
        }
        let runs = |contestants| runs(contestants, None, &made);
        let ratios = runs(&[Kind::Exitring, Kind::Tokio]).ratios(Metric::Drain);
        let expected = [2.0, 1.0, 1.0, 1.0, 3.0, 1.0].map(Some);
        assert_eq!(ratios, expected);
        let lines = runs(&[Kind::Exitring, Kind::Tokio]).summarize();
        let tokio = &lines[0];
        assert_eq!((tokio.contestant, tokio.rounds), (Kind::Tokio, 3));
        assert!(!tokio.is_reference && lines[1].is_reference);
        let spread = tokio.metrics[&Metric::Drain];
        assert_eq!(
            (spread.median, spread.min, spread.max),
            (300.0, 200.0, 1000.0)
        );
        // The median of the ratios of the rounds, not the ratio of the medians.
        assert_eq!(drain(tokio).median, 2.0);
        assert_eq!(tokio.metrics.get(&Metric::P50), None);
        assert_eq!(drain(&lines[1]), Ratio::of_reference(3));

        // Another contestant is the reference if it is the first that made a run.
        for contestants in [
            &[Kind::Tokio, Kind::Exitring][..],
            &[Kind::Shadow, Kind::Tokio],
        ] {
            let lines = runs(contestants).summarize();
            assert!(lines[0].is_reference, "{contestants:?}");
            assert_eq!(drain(&lines[1]).median, 0.5);
        }
    }

    #[test]
    fn a_line_has_an_interval_and_a_verdict_from_six_rounds_on() {
        let kinds = [Kind::Exitring, Kind::Tokio];
        for (rounds, expected) in [(5, None), (6, Some(Verdict::Slower))] {
            let made: Vec<_> = (1..=rounds)
                .flat_map(|round| {
                    let theirs = 150 + u64::from(round);
                    [run(kinds[0], round, 100), run(kinds[1], round, theirs)]
                })
                .collect();
            let lines = runs(&kinds, None, &made).summarize();
            assert_eq!(drain(&lines[1]).verdict, expected, "{rounds}");
            assert_eq!(drain(&lines[1]).interval.is_some(), expected.is_some());
        }
    }

    #[test]
    fn two_builds_are_compared_contestant_by_contestant() {
        let old = |kind, round, ns| Run {
            build: Some("old".into()),
            ..run(kind, round, ns)
        };
        let made = [
            run(Kind::Exitring, 1, 80),
            old(Kind::Exitring, 1, 100),
            run(Kind::Tokio, 1, 300),
            old(Kind::Tokio, 1, 200),
            // It has no counterpart.
            run(Kind::Shadow, 1, 50),
        ];
        let kinds = [Kind::Exitring, Kind::Tokio, Kind::Shadow];
        let lines = runs(&kinds, Some("old"), &made).summarize();
        let found: Vec<_> = lines
            .iter()
            .map(|line| {
                let ratio = line.metrics[&Metric::Drain].ratio;
                (line.is_reference, ratio.map(|ratio| ratio.median))
            })
            .collect();
        let expected = [
            (false, Some(0.8)),
            (true, Some(1.0)),
            (false, Some(1.5)),
            (true, Some(1.0)),
            (false, None),
        ];
        assert_eq!(found, expected);
    }
}
