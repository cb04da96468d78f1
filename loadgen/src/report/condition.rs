//! Conditions of `--fail-if`: `[CONTESTANT:]METRIC OP NUMBER[UNIT]`.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;

use crate::report::results::Report;
use crate::types::kind::Kind;
use crate::types::metric::{Metric, Unit};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    text: String,
    /// `None`: the first contestant.
    pub(crate) contestant: Option<Kind>,
    metric: Metric,
    op: Op,
    limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    More,
    MoreOrEqual,
    Less,
    LessOrEqual,
}

/// Longest first, so that `>=` is not parsed as `>`.
const OPS: [(&str, Op); 4] = [
    (">=", Op::MoreOrEqual),
    ("<=", Op::LessOrEqual),
    (">", Op::More),
    ("<", Op::Less),
];

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = OPS
            .iter()
            .find_map(|&(sign, op)| Some((text.split_once(sign)?, op)));
        let ((left, limit), op) = found.ok_or_else(|| {
            "no <, <=, > or >= in the condition; an example: p99>200us".to_owned()
        })?;
        let (contestant, metric) = match left.split_once(':') {
            Some((name, metric)) => {
                let kind = Kind::from_str(name.trim(), false);
                (
                    Some(kind.map_err(|_| {
                        format!("unknown contestant {name:?}; see --with in --help")
                    })?),
                    metric,
                )
            }
            None => (None, left),
        };
        let metric = Metric::from_str(metric.trim(), false).map_err(|_| {
            let names = Metric::value_variants().iter().map(|metric| metric.name());
            let names = names.collect::<Vec<_>>().join(", ");
            format!(
                "unknown metric {:?}; the metrics are {names}",
                metric.trim()
            )
        })?;
        Ok(Self {
            text: text.to_owned(),
            contestant,
            metric,
            op,
            limit: number(limit.trim(), metric.unit())?,
        })
    }
}

/// Parses a number with a unit of the metric.
fn number(text: &str, unit: Unit) -> Result<f64, String> {
    let end = text
        .find(|c: char| c.is_alphabetic() || c == '%')
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let digits = digits.trim();
    let number: f64 = digits
        .parse()
        .map_err(|_| format!("{digits:?} is not a number"))?;
    let factor = match (unit, suffix) {
        (Unit::Nanoseconds, "ns") | (Unit::Bytes, "" | "B") => 1.0,
        (Unit::Nanoseconds, "us" | "µs") => 1e3,
        (Unit::Nanoseconds, "ms") => 1e6,
        (Unit::Nanoseconds, "s") => 1e9,
        (Unit::Nanoseconds, "") => return Err("a time needs a unit: ns, us, ms or s".into()),
        (Unit::Bytes, "KiB") => 1024.0,
        (Unit::Bytes, "MiB") => 1024.0 * 1024.0,
        (Unit::Number | Unit::Ratio | Unit::PerSecond, "") | (Unit::PerSecond, "/s") => 1.0,
        _ => return Err(format!("{suffix:?} is not a unit of this metric")),
    };
    Ok(number * factor)
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Condition {
    /// The message if the condition holds for the median over the rounds. A metric that is not
    /// known counts as a failure.
    pub(crate) fn failure(&self, report: &Report) -> Option<String> {
        let first = report.contestants.first().copied();
        let of = self.contestant.or(first)?;
        let mut failures = report.summary.iter().filter(|line| line.contestant == of).map(|line| {
            let Some(spread) = line.metrics.get(&self.metric) else {
                let (metric, title) = (self.metric.title(), &line.title);
                return Some(format!("{self}: {metric} of {title} is not known: it was not measured, or has too few samples"));
            };
            let median = spread.median;
            let fails = match self.op {
                Op::More => median > self.limit,
                Op::MoreOrEqual => median >= self.limit,
                Op::Less => median < self.limit,
                Op::LessOrEqual => median <= self.limit,
            };
            let shown = self.metric.show(median);
            fails.then(|| format!("{self}: {} of {} is {shown}", self.metric.title(), line.title))
        });
        match report.summary.iter().any(|line| line.contestant == of) {
            true => failures.find_map(|failure| failure),
            false => Some(format!("{self}: {} made no run", of.name())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_parsed() {
        for (text, contestant, metric, op, limit) in [
            ("p99>200us", None, Metric::P99, Op::More, 200e3),
            (
                "p99.9 >= 1.5ms",
                None,
                Metric::P99_9,
                Op::MoreOrEqual,
                1.5e6,
            ),
            (
                "tokio:cpu<=10us",
                Some(Kind::Tokio),
                Metric::Cpu,
                Op::LessOrEqual,
                10e3,
            ),
            ("rate<1000", None, Metric::Rate, Op::Less, 1000.0),
            ("bytes>1KiB", None, Metric::Bytes, Op::More, 1024.0),
            ("ratio>1.1", None, Metric::Ratio, Op::More, 1.1),
        ] {
            let condition: Condition = text
                .parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                (
                    condition.contestant,
                    condition.metric,
                    condition.op,
                    condition.limit
                ),
                (contestant, metric, op, limit),
                "{text}"
            );
        }
    }

    #[test]
    fn errors_name_what_is_wrong_with_a_condition() {
        for (text, why) in [
            ("p99", "no <"),
            ("p98>1us", "unknown metric \"p98\""),
            ("p99>200", "needs a unit"),
            ("p99>us", "not a number"),
            ("lost>0ms", "not a unit"),
            ("nobody:p99>1us", "unknown contestant \"nobody\""),
        ] {
            let error = text.parse::<Condition>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
