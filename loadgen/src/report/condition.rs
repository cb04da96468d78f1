//! Conditions of `--fail-if`: `[CONTESTANT:]QUANTITY OP NUMBER[UNIT]`.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;

use crate::report::bootstrap::MIN_VALUES;
use crate::report::quantity::Quantity;
use crate::report::results::Report;
use crate::report::summary::Line;
use crate::types::kind::Kind;
use crate::types::metric::Unit;
use crate::types::scenario::Scenario;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    text: String,
    /// `None`: the first contestant.
    pub(crate) contestant: Option<Kind>,
    quantity: Quantity,
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
        let (contestant, quantity) = match left.split_once(':') {
            Some((name, quantity)) => {
                let kind = Kind::from_str(name.trim(), false);
                (
                    Some(kind.map_err(|_| {
                        format!("unknown contestant {name:?}; see --with in --help")
                    })?),
                    quantity,
                )
            }
            None => (None, left),
        };
        let quantity: Quantity = quantity.trim().parse()?;
        Ok(Self {
            text: text.to_owned(),
            contestant,
            quantity,
            op,
            limit: number(limit.trim(), quantity.unit())?,
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
    /// The reason why the condition cannot be evaluated with this many rounds, if there is one.
    /// `reference` is the first contestant if the ratios are to it; `None` if they are to another
    /// build.
    pub(crate) fn reason_unknown(&self, rounds: u32, reference: Option<Kind>) -> Option<String> {
        if !self.quantity.is_ratio() {
            return None;
        }
        if reference.is_some_and(|kind| self.contestant.is_none_or(|of| of == kind)) {
            return Some(
                "the first contestant is the reference of the others; name another of --with, as in 'tokio:ratio-low<1', or compare with another build (--against, --baseline)".into(),
            );
        }
        (self.quantity.needs_interval() && (rounds as usize) < MIN_VALUES).then(|| {
            format!("an interval needs {MIN_VALUES} rounds, not {rounds}; use --repeat {MIN_VALUES} or more, or --until-width")
        })
    }

    /// The message if the condition holds for the rounds. A quantity that is not known counts as a
    /// failure. Of two builds, the one that saves the report is checked.
    pub(crate) fn failure(&self, report: &Report) -> Option<String> {
        let first = report.contestants.first().copied();
        let of = self.contestant.or(first)?;
        let lines = || {
            let lines = report.summary.iter();
            lines.filter(|line| line.contestant == of && line.build.is_none())
        };
        if lines().next().is_none() {
            return Some(format!("{self}: {} made no run", of.name()));
        }
        let mut sizes = report.scenarios.iter().filter_map(Scenario::live);
        if let Some(live) = sizes.find(|&live| lines().all(|line| line.live != Some(live))) {
            let of = of.name();
            return Some(format!(
                "{self}: {of} made no run with {live} live children"
            ));
        }
        let title = self.quantity.title(report.headline);
        let failure = |line: &Line| match self.quantity.of(line, report.headline) {
            Err(why) => Some(format!(
                "{self}: {title} of {} is not known: {why}",
                line.title
            )),
            Ok(value) => {
                let shown = self.quantity.show(value);
                self.holds(value)
                    .then(|| format!("{self}: {title} of {} is {shown}", line.title))
            }
        };
        lines().find_map(failure)
    }

    fn holds(&self, value: f64) -> bool {
        match self.op {
            Op::More => value > self.limit,
            Op::MoreOrEqual => value >= self.limit,
            Op::Less => value < self.limit,
            Op::LessOrEqual => value <= self.limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::quantity::Part;
    use crate::types::environment::Environment;
    use crate::types::metric::Metric;
    use crate::types::run::Run;

    fn quantity(metric: Option<Metric>, part: Part) -> Quantity {
        Quantity { metric, part }
    }

    #[test]
    fn conditions_are_parsed() {
        let median = |metric| quantity(Some(metric), Part::Median);
        for (text, contestant, quantity, op, limit) in [
            ("p99>200us", None, median(Metric::P99), Op::More, 200e3),
            (
                "p99.9 >= 1.5ms",
                None,
                median(Metric::P99_9),
                Op::MoreOrEqual,
                1.5e6,
            ),
            (
                "tokio:cpu<=10us",
                Some(Kind::Tokio),
                median(Metric::Cpu),
                Op::LessOrEqual,
                10e3,
            ),
            ("rate<1000", None, median(Metric::Rate), Op::Less, 1000.0),
            ("bytes>1KiB", None, median(Metric::Bytes), Op::More, 1024.0),
            (
                "spawn-cost>2",
                None,
                median(Metric::SpawnCost),
                Op::More,
                2.0,
            ),
            (
                "ratio>1.1",
                None,
                quantity(None, Part::Ratio),
                Op::More,
                1.1,
            ),
            (
                "tokio:ratio-low<1",
                Some(Kind::Tokio),
                quantity(None, Part::RatioLow),
                Op::Less,
                1.0,
            ),
            (
                "shadow : p99.9-ratio-high >= 0.95",
                Some(Kind::Shadow),
                quantity(Some(Metric::P99_9), Part::RatioHigh),
                Op::MoreOrEqual,
                0.95,
            ),
            (
                "cpu-ratio<1",
                None,
                quantity(Some(Metric::Cpu), Part::Ratio),
                Op::Less,
                1.0,
            ),
        ] {
            let condition: Condition = text
                .parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                (
                    condition.contestant,
                    condition.quantity,
                    condition.op,
                    condition.limit
                ),
                (contestant, quantity, op, limit),
                "{text}"
            );
        }
    }

    #[test]
    fn errors_name_what_is_wrong_with_a_condition() {
        for (text, why) in [
            ("p99", "no <"),
            ("p98>1us", "unknown metric \"p98\""),
            ("p98-ratio-low>1", "unknown metric \"p98\""),
            ("cpuratio>1", "unknown metric \"cpuratio\""),
            ("p99>200", "needs a unit"),
            ("p99>us", "not a number"),
            ("lost>0ms", "not a unit"),
            ("p99-ratio>1us", "not a unit"),
            ("nobody:p99>1us", "unknown contestant \"nobody\""),
        ] {
            let error = text.parse::<Condition>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    /// A report of this many rounds in which tokio takes 1.5 times as long.
    fn report(rounds: u32) -> Report {
        let kinds = [Kind::Exitring, Kind::Tokio];
        let mut report = Report::new("storm", &[], &kinds, rounds, Environment::default());
        report.headline = Metric::Drain;
        for round in 1..=rounds {
            for (contestant, drain_ns) in kinds.into_iter().zip([1000, 1500]) {
                report.add(Run {
                    contestant,
                    round,
                    drain_ns,
                    ..Run::default()
                });
            }
        }
        report.summarize();
        report
    }

    #[test]
    fn the_ends_of_an_interval_can_be_asserted() {
        let failure = |text: &str, rounds| {
            let condition: Condition = text.parse().expect(text);
            condition.failure(&report(rounds))
        };
        assert_eq!(failure("tokio:ratio-low<=1", 6), None);
        assert_eq!(failure("tokio:drain-ratio-high>1.6", 6), None);
        let holds = failure("tokio:ratio-high>1", 6).expect("it holds");
        assert!(
            holds.contains("upper end of the ratio of drain time"),
            "{holds}"
        );
        assert!(holds.ends_with("×1.5000"), "{holds}");
        let unknown = failure("tokio:ratio-low<=1", 5).expect("not known");
        assert!(unknown.contains("too few rounds"), "{unknown}");
        let unknown = failure("tokio:p50-ratio<=1", 6).expect("not known");
        assert!(unknown.contains("not measured"), "{unknown}");
        let reference = failure("ratio-low<=1", 6).expect("not known");
        assert!(reference.contains("reference"), "{reference}");
    }

    #[test]
    fn the_ratio_of_the_reference_is_not_known() {
        for text in ["ratio>1.1", "ratio<0.9", "exitring:drain-ratio>1.1"] {
            let condition: Condition = text.parse().expect(text);
            let unknown = condition.failure(&report(6)).expect("not known");
            assert!(unknown.contains("reference"), "{unknown}");
        }
    }

    #[test]
    fn a_size_without_a_run_fails() {
        let steady = |live| {
            let options = format!(
                r#"{{"steady":{{"live":{live},"rate":1,"duration":1.0,"arrivals":"fixed","seed":1}}}}"#
            );
            serde_json::from_str::<Scenario>(&options).expect("a scenario")
        };
        let kinds = [Kind::Exitring, Kind::Shadow];
        let sizes = [steady(20), steady(400)];
        let mut report = Report::new("scale", &sizes, &kinds, 1, Environment::default());
        for (contestant, live) in [(kinds[0], 20), (kinds[1], 20), (kinds[0], 400)] {
            report.add(Run {
                contestant,
                live: Some(live),
                ..Run::default()
            });
        }
        report.summarize();
        let failure = |text: &str| {
            let condition: Condition = text.parse().expect(text);
            condition.failure(&report)
        };
        assert_eq!(failure("exitring:lost>0"), None);
        let absent = failure("shadow:lost>0").expect("a size is missing");
        assert!(
            absent.ends_with("shadow made no run with 400 live children"),
            "{absent}"
        );
    }

    #[test]
    fn a_condition_that_will_not_be_known_is_refused_in_advance() {
        let reason = |text: &str, rounds, reference| {
            let condition: Condition = text.parse().expect(text);
            condition
                .reason_unknown(rounds, reference)
                .unwrap_or_default()
        };
        let first = Some(Kind::Exitring);
        for known in ["tokio:ratio<1", "p50>1s", "exitring:p50>1s"] {
            assert_eq!(reason(known, 1, first), "", "{known}");
        }
        assert_eq!(reason("tokio:ratio-low<1", 6, first), "");
        assert_eq!(reason("ratio-low<1", 6, None), "");
        assert_eq!(reason("exitring:ratio<1", 1, None), "");
        assert!(reason("tokio:ratio-low<1", 5, first).contains("--repeat 6"));
        // The ratio of the reference is 1 in every round, so these would never hold.
        for part in ["ratio", "ratio-low", "cpu-ratio-high"] {
            for of in ["", "exitring:"] {
                let why = reason(&format!("{of}{part}>1.1"), 6, first);
                assert!(why.contains("reference") && why.contains("--with"), "{why}");
            }
        }
    }
}
