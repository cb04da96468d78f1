//! Axes of charts: logarithmic axes with a position for zero, and axes of percentiles. The axes of
//! plotters have ticks at values that are not round.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::types::metric::{Metric, Unit};

pub(super) struct Axis {
    /// Maps values to positions.
    to: fn(f64) -> f64,
    /// The first and the last position.
    low: f64,
    high: f64,
    /// The position of zero, which has no logarithm.
    zero: Option<f64>,
    ticks: Vec<(f64, String)>,
}

/// An axis with more decades than this has ticks only at powers of ten.
const FEW_DECADES: f64 = 2.5;
/// The part of a logarithmic axis that is reserved for zero.
const FOR_ZERO: f64 = 0.12;
/// The part of an axis beyond its outermost ticks. It keeps marks off the frame.
const MARGIN: f64 = 0.02;
/// The minimal distance of two ticks, as a part of the axis. The labels of closer ticks overlap.
const MIN_DISTANCE: f64 = 0.08;

impl Axis {
    /// A logarithmic axis from one tick to another that contains all values.
    pub(super) fn log(values: &[f64], metric: Metric) -> Self {
        let positive = || values.iter().copied().filter(|&value| value > 0.0);
        let min = positive().reduce(f64::min).unwrap_or(1.0);
        let max = positive().reduce(f64::max).unwrap_or(1.0);
        let steps: Vec<f64> = (decade(min) - 1..=decade(max) + 2)
            .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
            .collect();
        let below = steps.iter().rposition(|&step| step <= min).unwrap_or(0);
        let above = steps
            .iter()
            .position(|&step| step >= max)
            .unwrap_or(steps.len() - 1);
        let steps = &steps[below..=above.max(below + 1)];
        let ends = || steps.iter().map(|step| step.log10());
        let low = ends().reduce(f64::min).unwrap_or(0.0);
        let high = ends().reduce(f64::max).unwrap_or(1.0);
        let fine = high - low <= FEW_DECADES;
        let whole = |step: f64| (step.log10() - step.log10().round()).abs() < 1e-9;
        let shown = steps.iter().filter(|&&step| fine || whole(step));
        let ticks = shown.map(|&step| (step, tick(metric, step))).collect();
        let margin = MARGIN * (high - low);
        let axis = Self {
            to: f64::log10,
            low: low - margin,
            high: high + margin,
            zero: None,
            ticks,
        };
        axis.with_zero_for(values)
    }

    /// A logarithmic axis with ticks at the values. Ticks whose labels would overlap are left out.
    pub(super) fn of_sizes(values: &[f64]) -> Self {
        let mut sizes: Vec<f64> = values
            .iter()
            .copied()
            .filter(|&value| value > 0.0)
            .collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        let first = sizes.first().map_or(0.0, |size| size.log10());
        let last = sizes.last().map_or(0.0, |size| size.log10());
        let margin = if last > first {
            0.04 * (last - first)
        } else {
            0.5
        };
        let (low, high) = (first - margin, last + margin);
        let mut ticks: Vec<(f64, String)> = Vec::new();
        for size in sizes {
            let near = |(other, _): &(f64, String)| {
                size.log10() - other.log10() < MIN_DISTANCE * (high - low)
            };
            if !ticks.last().is_some_and(near) {
                ticks.push((size, size.to_string()));
            }
        }
        let axis = Self {
            to: f64::log10,
            low,
            high,
            zero: None,
            ticks,
        };
        axis.with_zero_for(values)
    }

    /// An axis of quantiles from 0 to the one with this many nines. Each nine has the same length:
    /// 90 % to 99 % is as long as 99 % to 99.9 %.
    pub(super) fn of_quantiles(nines_at_end: f64) -> Self {
        let whole = (1..=nines_at_end.floor() as i32).map(|count| {
            let quantile = 1.0 - 10_f64.powi(-count);
            let digits = usize::try_from(count - 2).unwrap_or(0);
            (quantile, format!("{:.digits$} %", 100.0 * quantile))
        });
        let first = [(0.0, "0 %".to_owned()), (0.5, "50 %".to_owned())];
        let mut ticks: Vec<_> = first.into_iter().chain(whole).collect();
        ticks.retain(|&(quantile, _)| nines(quantile) <= nines_at_end + 1e-9);
        Self {
            to: nines,
            low: 0.0,
            high: nines_at_end,
            zero: None,
            ticks,
        }
    }

    /// Adds a position for zero if there are zeros, which have no logarithm.
    fn with_zero_for(self, values: &[f64]) -> Self {
        match values.iter().any(|&value| value <= 0.0) {
            true => self.with_zero(),
            false => self,
        }
    }

    fn with_zero(mut self) -> Self {
        let span = self.high - self.low;
        let zero = self.low - FOR_ZERO * span;
        self.low = zero - MARGIN * span;
        self.zero = Some(zero);
        self.ticks.insert(0, (0.0, "0".into()));
        self
    }

    /// The position of a value, from 0 to 1.
    pub(super) fn position(&self, value: f64) -> f64 {
        let position = match self.zero {
            Some(zero) if value <= 0.0 => zero,
            _ => (self.to)(value),
        };
        (position.clamp(self.low, self.high) - self.low) / (self.high - self.low)
    }

    pub(super) fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }
}

/// The number of nines of a quantile, log₁₀ 1/(1-p): 1 for 90 %, 2 for 99 %.
pub(super) fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

fn decade(value: f64) -> i32 {
    value.log10().floor() as i32
}

/// The label of a tick, with the largest unit that gives a value of at least 1.
fn tick(metric: Metric, value: f64) -> String {
    let units: &[(f64, &str)] = match metric.unit() {
        Unit::Nanoseconds => &[(1e9, " s"), (1e6, " ms"), (1e3, " µs"), (0.0, " ns")],
        Unit::Bytes => &[(1e6, " MB"), (1e3, " kB"), (0.0, " B")],
        Unit::PerSecond => &[(0.0, "/s")],
        Unit::Number | Unit::Ratio => &[],
    };
    let unit = units.iter().find(|(from, _)| value >= *from);
    let (from, name) = unit.copied().unwrap_or((0.0, ""));
    format!("{}{name}", value / if from > 0.0 { from } else { 1.0 })
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        limit.0 + (self.position(*value) * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let light = hint.weight().allow_light_points();
        self.ticks
            .iter()
            .filter(|_| !light)
            .map(|&(value, _)| value)
            .collect()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|(at, _)| at == value);
        tick.map_or_else(String::new, |(_, label)| label.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn each_nine_of_a_quantile_has_the_same_length() {
        let axis = Axis::of_quantiles(4.0);
        assert_eq!(
            labels(&axis),
            ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]
        );
        for (quantile, position) in [
            (0.0, 0.0),
            (0.9, 0.25),
            (0.99, 0.5),
            (0.999, 0.75),
            (0.9999, 1.0),
        ] {
            assert!(
                (axis.position(quantile) - position).abs() < 1e-9,
                "{quantile}"
            );
        }
        assert!((axis.position(0.5) - 0.0753).abs() < 1e-4);
        assert_eq!(axis.map(&0.99, (100, 300)), 200);
        assert_eq!(labels(&Axis::of_quantiles(0.9)), ["0 %", "50 %"]);
    }

    #[test]
    fn a_narrow_logarithmic_axis_has_more_ticks_than_a_wide_one() {
        let axis = Axis::log(&[90_000.0, 1_500_000.0], Metric::P50);
        assert_eq!(
            labels(&axis),
            ["50 µs", "100 µs", "200 µs", "500 µs", "1 ms", "2 ms"]
        );
        let axis = Axis::log(&[90.0, 3e9], Metric::P50);
        assert_eq!(labels(&axis).first(), Some(&"100 ns"));
        assert_eq!(labels(&axis).last(), Some(&"1 s"));
        assert_eq!(labels(&axis).len(), 8);
        assert_eq!(labels(&Axis::log(&[1.0], Metric::Fds)), ["1", "2"]);
    }

    #[test]
    fn zero_has_a_position_below_all_other_values() {
        let axis = Axis::log(&[0.0, 3.0, 2000.0], Metric::Fds);
        assert_eq!(labels(&axis), ["0", "10", "100", "1000"]);
        assert!(axis.position(0.0) > 0.0 && axis.position(0.0) < axis.position(2.0));
        let axis = Axis::log(&[0.0], Metric::Fds);
        assert!(axis.position(0.0) < axis.position(1.0));
    }

    #[test]
    fn sizes_are_ticks_unless_labels_would_overlap() {
        assert_eq!(
            labels(&Axis::of_sizes(&[1000.0, 100.0, 1010.0])),
            ["100", "1000"]
        );
        let alone = Axis::of_sizes(&[100.0, 100.0]);
        assert!((alone.position(100.0) - 0.5).abs() < 1e-9);
        assert_eq!(labels(&Axis::of_sizes(&[0.0, 10.0])), ["0", "10"]);
    }
}
