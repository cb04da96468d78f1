//! The summary of the runs: medians, ranges, and ratios to exitring.

use std::collections::BTreeMap;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::kind::Kind;
use crate::types::metric::Metric;
use crate::types::run::Run;

/// The runs of one contestant in one scenario.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Line {
    pub(crate) contestant: Kind,
    pub(crate) title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) live: Option<u32>,
    pub(crate) rounds: usize,
    pub(crate) metrics: BTreeMap<Metric, Spread>,
}

/// A metric over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// The value as a multiple of exitring's in the same round, median over the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio_to_exitring: Option<f64>,
}

/// Sets the ratio of each run's headline to that of exitring.
pub(super) fn set_ratios(headline: Metric, runs: &mut [Run]) {
    let ratios: Vec<_> = runs.iter().map(|run| ratio(runs, headline, run)).collect();
    for (run, ratio) in runs.iter_mut().zip(ratios) {
        run.ratio_to_exitring = ratio;
    }
}

/// One line per contestant and size. Lines are sorted by size, then in the order of the runs.
pub(super) fn summarize(runs: &[Run]) -> Vec<Line> {
    let mut lines: Vec<(Kind, Option<u32>)> = Vec::new();
    for run in runs {
        if !lines.contains(&(run.contestant, run.live)) {
            lines.push((run.contestant, run.live));
        }
    }
    lines.sort_by_key(|&(_, live)| live);
    let lines = lines.into_iter().map(|(kind, live)| line(runs, kind, live));
    lines.collect()
}

/// The metric of a run as a multiple of exitring's in the same round.
fn ratio(runs: &[Run], metric: Metric, run: &Run) -> Option<f64> {
    let ours = runs.iter().find(|other| {
        other.contestant == Kind::Exitring && (other.round, other.live) == (run.round, run.live)
    })?;
    let (ours, theirs) = (metric.of(ours)?, metric.of(run)?);
    (ours > 0.0).then(|| theirs / ours)
}

fn line(all: &[Run], kind: Kind, live: Option<u32>) -> Line {
    let runs = all
        .iter()
        .filter(|run| (run.contestant, run.live) == (kind, live));
    let runs: Vec<_> = runs.collect();
    let spread = |&metric: &Metric| {
        let values: Vec<_> = runs.iter().filter_map(|run| metric.of(run)).collect();
        let ratios = runs
            .iter()
            .filter_map(|run| ratio(all, metric, run))
            .collect();
        let spread = Spread {
            median: median(values.clone())?,
            min: values.iter().copied().reduce(f64::min)?,
            max: values.iter().copied().reduce(f64::max)?,
            ratio_to_exitring: median(ratios),
        };
        Some((metric, spread))
    };
    Line {
        contestant: kind,
        title: runs
            .first()
            .map_or_else(String::new, |run| run.title.clone()),
        live,
        rounds: runs.len(),
        metrics: Metric::value_variants().iter().filter_map(spread).collect(),
    }
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

    fn run(contestant: Kind, round: u32, drain_ns: u64) -> Run {
        Run {
            contestant,
            round,
            drain_ns,
            title: contestant.name(),
            ..Run::default()
        }
    }

    #[test]
    fn the_median_of_an_even_number_of_values_is_their_midpoint() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
    }

    #[test]
    fn ratios_are_to_exitring_in_the_same_round() {
        let mut runs = Vec::new();
        for (round, ours, theirs) in [(1, 100, 200), (2, 1000, 1000), (3, 100, 300)] {
            runs.push(run(Kind::Tokio, round, theirs));
            runs.push(run(Kind::Exitring, round, ours));
        }
        set_ratios(Metric::Drain, &mut runs);
        let ratios = runs
            .iter()
            .map(|run| run.ratio_to_exitring.expect("exitring is there"));
        assert_eq!(ratios.collect::<Vec<_>>(), [2.0, 1.0, 1.0, 1.0, 3.0, 1.0]);
        let tokio = &summarize(&runs)[0];
        assert_eq!((tokio.contestant, tokio.rounds), (Kind::Tokio, 3));
        let expected = Spread {
            median: 300.0,
            min: 200.0,
            max: 1000.0,
            // The median of the ratios of the rounds, not the ratio of the medians.
            ratio_to_exitring: Some(2.0),
        };
        assert_eq!(tokio.metrics[&Metric::Drain], expected);
        assert_eq!(tokio.metrics.get(&Metric::P50), None);

        let mut alone = [run(Kind::Tokio, 1, 1)];
        set_ratios(Metric::Drain, &mut alone);
        assert_eq!(alone[0].ratio_to_exitring, None);
    }
}
