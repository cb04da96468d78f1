//! The ratio of a contestant to the reference in the same rounds, and what it shows.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bootstrap::{Bootstrap, Interval};
use super::summary::median;
use crate::types::metric::{Metric, Sense};

/// A metric as a multiple of the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Ratio {
    /// The median of the ratios of the rounds.
    pub(crate) median: f64,
    /// The number of rounds in which both have a value.
    pub(crate) rounds: usize,
    /// The interval of the median, with a confidence of 95 %. Left out for the reference, and if
    /// there are fewer than six rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interval: Option<Interval>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) verdict: Option<Verdict>,
}

/// What an interval shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// A shorter time, or more events per second, than the reference
    Faster,
    /// A longer time, or fewer events per second, than the reference
    Slower,
    /// Less of a cost or of a count than the reference
    Less,
    /// More of a cost or of a count than the reference
    More,
    /// The interval contains 1
    NoDifferenceShown,
}

impl Ratio {
    /// The ratio of the reference to itself.
    pub(super) fn of_reference(rounds: usize) -> Self {
        Self {
            median: 1.0,
            rounds,
            interval: None,
            verdict: None,
        }
    }

    /// The ratio from those of the rounds; `None` without any.
    pub(super) fn of(metric: Metric, ratios: Vec<f64>, bootstrap: &mut Bootstrap) -> Option<Self> {
        let (rounds, interval) = (ratios.len(), bootstrap.interval(&ratios));
        Some(Self {
            median: median(ratios)?,
            rounds,
            interval,
            verdict: interval.map(|interval| Verdict::of(metric, interval)),
        })
    }

    /// The full width of the interval as a part of the ratio.
    pub(crate) fn width(&self) -> Option<f64> {
        let interval = self.interval?;
        Some((interval.high - interval.low) / self.median)
    }

    /// The ratio with its interval and verdict, as `×0.950 (0.930 to 0.970) faster`.
    pub(crate) fn show(&self) -> String {
        let verdict = self.verdict.map(|verdict| verdict.to_string());
        let parts = [Some(self.show_median()), self.show_interval(), verdict];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn show_interval(&self) -> Option<String> {
        let (interval, digits) = (self.interval?, digits(self.median));
        let (low, high) = (interval.low, interval.high);
        Some(format!("({low:.digits$} to {high:.digits$})"))
    }

    pub(crate) fn show_median(&self) -> String {
        format!("×{:.*}", digits(self.median), self.median)
    }
}

/// The decimal places of a ratio: three digits that matter near 1.
fn digits(ratio: f64) -> usize {
    match ratio {
        ratio if ratio >= 100.0 => 0,
        ratio if ratio >= 10.0 => 1,
        ratio if ratio >= 0.1 => 3,
        _ => 4,
    }
}

impl Verdict {
    fn of(metric: Metric, interval: Interval) -> Self {
        if interval.contains(1.0) {
            return Self::NoDifferenceShown;
        }
        match (metric.sense(), interval.high < 1.0) {
            (Sense::Time, true) | (Sense::Rate, false) => Self::Faster,
            (Sense::Time, false) | (Sense::Rate, true) => Self::Slower,
            (Sense::Amount, true) => Self::Less,
            (Sense::Amount, false) => Self::More,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Less => "less",
            Self::More => "more",
            Self::NoDifferenceShown => "no difference shown",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_depends_on_the_sense_of_the_metric() {
        let verdict = |metric, low, high| Verdict::of(metric, Interval { low, high });
        for (metric, below, above) in [
            (Metric::Drain, Verdict::Faster, Verdict::Slower),
            (Metric::P99, Verdict::Faster, Verdict::Slower),
            (Metric::Rate, Verdict::Slower, Verdict::Faster),
            (Metric::Cpu, Verdict::Less, Verdict::More),
            (Metric::Fds, Verdict::Less, Verdict::More),
            (Metric::SpawnCost, Verdict::Less, Verdict::More),
        ] {
            assert_eq!(verdict(metric, 0.8, 0.99), below, "{metric:?}");
            assert_eq!(verdict(metric, 1.01, 1.2), above, "{metric:?}");
            for (low, high) in [(0.9, 1.1), (1.0, 1.1), (0.9, 1.0), (1.0, 1.0)] {
                let verdict = verdict(metric, low, high);
                assert_eq!(verdict, Verdict::NoDifferenceShown, "{metric:?} {low}");
            }
        }
    }

    #[test]
    fn a_ratio_of_few_rounds_has_no_interval_and_no_verdict() {
        let mut bootstrap = Bootstrap::default();
        let mut ratio = |rounds| Ratio::of(Metric::P50, vec![0.5; rounds], &mut bootstrap);
        assert_eq!(ratio(0), None);
        let few = ratio(5).expect("there are ratios");
        assert_eq!((few.interval, few.verdict, few.width()), (None, None, None));
        assert_eq!(few.show(), "×0.500");
        let enough = ratio(6).expect("there are ratios");
        assert_eq!(enough.width(), Some(0.0));
        assert_eq!(enough.show(), "×0.500 (0.500 to 0.500) faster");
    }
}
