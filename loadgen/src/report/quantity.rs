//! The left side of a condition: a metric, its ratio to the reference, or an end of the interval of
//! that ratio.

use std::str::FromStr;

use clap::ValueEnum;

use crate::report::summary::Line;
use crate::types::metric::{Metric, Unit};

/// What is compared with the limit: `METRIC`, or `[METRIC-]ratio[-low|-high]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quantity {
    /// `None`: the metric by which contestants are compared first.
    pub(super) metric: Option<Metric>,
    pub(super) part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The median over the rounds.
    Median,
    /// The median of the ratios to the reference.
    Ratio,
    /// The lower end of the interval of the ratio.
    RatioLow,
    RatioHigh,
}

/// The ends of names. None of them ends with another.
const PARTS: [(&str, Part); 3] = [
    ("ratio-low", Part::RatioLow),
    ("ratio-high", Part::RatioHigh),
    ("ratio", Part::Ratio),
];

impl FromStr for Quantity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ratio = PARTS
            .iter()
            .find_map(|&(suffix, part)| Some((text.strip_suffix(suffix)?, part)));
        let (name, part) = match ratio {
            Some(("", part)) => return Ok(Self { metric: None, part }),
            Some((name, part)) => (name.strip_suffix('-').unwrap_or(text), part),
            None => (text, Part::Median),
        };
        let metric = Metric::from_str(name, false).map_err(|_| {
            let names = Metric::value_variants().iter().map(|metric| metric.name());
            let names = names.collect::<Vec<_>>().join(", ");
            format!(
                "unknown metric {name:?}; the metrics are {names}, and ratio, ratio-low, ratio-high, also as in cpu-ratio-low"
            )
        })?;
        let metric = Some(metric);
        Ok(Self { metric, part })
    }
}

impl Quantity {
    /// The unit of the number; only a median has one.
    pub(super) fn unit(self) -> Unit {
        match (self.part, self.metric) {
            (Part::Median, Some(metric)) => metric.unit(),
            _ => Unit::Ratio,
        }
    }

    pub(super) fn is_ratio(self) -> bool {
        self.part != Part::Median
    }

    pub(super) fn needs_interval(self) -> bool {
        matches!(self.part, Part::RatioLow | Part::RatioHigh)
    }

    /// The value of a line, or the reason why it is not known.
    pub(super) fn of(self, line: &Line, headline: Metric) -> Result<f64, &'static str> {
        let spread = line.metrics.get(&self.metric.unwrap_or(headline));
        let spread = spread.ok_or("it was not measured, or has too few samples")?;
        if self.is_ratio() && line.is_reference {
            return Err("it is the reference of the others");
        }
        let ratio = spread.ratio.ok_or("there is nothing to compare it with");
        let interval = || ratio?.interval.ok_or("too few rounds for an interval");
        match self.part {
            Part::Median => Ok(spread.median),
            Part::Ratio => Ok(ratio?.median),
            Part::RatioLow => Ok(interval()?.low),
            Part::RatioHigh => Ok(interval()?.high),
        }
    }

    pub(super) fn title(self, headline: Metric) -> String {
        let metric = self.metric.unwrap_or(headline).title();
        match self.part {
            Part::Median => metric.to_owned(),
            Part::Ratio => format!("the ratio of {metric}"),
            Part::RatioLow => format!("the lower end of the ratio of {metric}"),
            Part::RatioHigh => format!("the upper end of the ratio of {metric}"),
        }
    }

    pub(super) fn show(self, value: f64) -> String {
        match (self.part, self.metric) {
            (Part::Median, Some(metric)) => metric.show(value),
            _ => format!("×{value:.4}"),
        }
    }
}
