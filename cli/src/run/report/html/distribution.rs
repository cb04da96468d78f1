//! A chart of a distribution: bars on a logarithmic scale, made of HTML elements, so that their
//! labels have the same size at every width of the page.

use hdrhistogram::Histogram;
use maud::{Markup, html};

use super::format;

const BARS: usize = 32;
const TICKS_MAX: usize = 5;

/// How values are shown, and where a scale may have ticks: at level 0 at many values, at each
/// further level at fewer.
pub(super) struct Unit {
    pub(super) show: fn(u64) -> String,
    pub(super) ticks: fn(usize) -> Vec<f64>,
}

/// Microseconds.
pub(super) const TIME: Unit = Unit {
    show: |micros| format::duration(std::time::Duration::from_micros(micros)),
    ticks: |level| {
        let multiples: &[f64] = if level == 0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let below =
            (0..8).flat_map(|power| multiples.iter().map(move |by| by * 10_f64.powi(power)));
        let minutes = match level {
            0 => &[1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0][..],
            _ => &[1.0, 10.0, 60.0, 600.0, 6e3, 6e4, 6e5, 6e6][..],
        };
        let all = below.chain(minutes.iter().map(|minutes| minutes * 60e6));
        all.step_by(level.max(1)).collect()
    },
};

/// Bytes.
pub(super) const MEMORY: Unit = Unit {
    show: format::bytes,
    ticks: |level| {
        (0..=50)
            .step_by(level + 1)
            .map(|power| 2_f64.powi(power))
            .collect()
    },
};

/// `None` if no value was recorded.
pub(super) fn chart(title: &str, values: &Histogram<u64>, unit: &Unit) -> Option<Markup> {
    if values.is_empty() {
        return None;
    }
    let scale = Scale::of(values.min().max(1) as f64, values.max().max(1) as f64);
    let mut bars = [0_u64; BARS];
    for recorded in values.iter_recorded() {
        let at = scale.position(recorded.value_iterated_to() as f64);
        let bar = (at * BARS as f64) as usize;
        bars[bar.min(BARS - 1)] += recorded.count_since_last_iteration();
    }
    let highest = bars.iter().copied().max().unwrap_or_default().max(1);
    let edge = |bar: usize| (unit.show)(scale.value(bar as f64 / BARS as f64).round() as u64);
    let percentiles = [50.0, 90.0, 99.0];
    let at = |percent| (unit.show)(values.value_at_percentile(percent).min(values.max()));
    Some(html! {
        figure.distribution {
            figcaption {
                b { (title) }
                span {
                    @for percent in percentiles { "p" (percent) " " (at(percent)) ", " }
                    "highest " (at(100.0))
                }
            }
            div.bars {
                span.highest { (format::count(highest)) }
                @for (index, &count) in bars.iter().enumerate() {
                    div title=(format!("{}: {} to {}", jobs(count), edge(index), edge(index + 1))) {
                        @if count > 0 {
                            div style=(format!("height:{:.2}%", height(count, highest))) {}
                        }
                    }
                }
            }
            div.ticks {
                @for tick in scale.ticks(unit) {
                    @let left = 100.0 * scale.position(tick);
                    span style=(format!("left:{left:.2}%")) { (short((unit.show)(tick as u64))) }
                }
            }
        }
    })
}

/// The height of a bar. Every bar can be seen.
fn height(count: u64, highest: u64) -> f64 {
    (100.0 * count as f64 / highest as f64).max(1.5)
}

fn jobs(count: u64) -> String {
    let noun = if count == 1 { "job" } else { "jobs" };
    format!("{} {noun}", format::count(count))
}

/// `10.0 ms` as `10 ms`.
fn short(text: String) -> String {
    text.replace(".00 ", " ").replace(".0 ", " ")
}

/// A logarithmic scale from one value to another.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// A scale that has both values inside, and is at least a factor of 4 wide.
    fn of(low: f64, high: f64) -> Self {
        let wider = (4.0 * low / high).max(1.1).sqrt();
        Self {
            low: low / wider,
            high: high * wider,
        }
    }

    /// 0 at the low end, 1 at the high end.
    fn position(&self, value: f64) -> f64 {
        ((value / self.low).ln() / (self.high / self.low).ln()).clamp(0.0, 1.0)
    }

    fn value(&self, position: f64) -> f64 {
        self.low * (self.high / self.low).powf(position)
    }

    /// Few round values.
    fn ticks(&self, unit: &Unit) -> Vec<f64> {
        let inside = |level| {
            let mut ticks = (unit.ticks)(level);
            ticks.retain(|&tick| tick >= self.low && tick <= self.high);
            ticks
        };
        // The last level has one tick at the most.
        let mut levels = (0..=50).map(inside);
        levels
            .find(|ticks| ticks.len() <= TICKS_MAX)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scale_has_few_ticks_inside() {
        for low in [1.0, 3.0, 999.0, 1e6] {
            for factor in [1.0, 1.5, 10.0, 1e3, 1e6, 1e12] {
                let scale = Scale::of(low, low * factor);
                for unit in [TIME, MEMORY] {
                    let ticks = scale.ticks(&unit);
                    assert!(ticks.len() <= TICKS_MAX, "{low} {factor}: {ticks:?}");
                    assert!(!ticks.is_empty(), "{low} {factor}");
                    let within = |&tick: &f64| (0.0..=1.0).contains(&scale.position(tick));
                    assert!(ticks.iter().all(within));
                }
            }
        }
    }

    #[test]
    fn every_value_is_in_a_bar() {
        let mut values = Histogram::new_with_max(1 << 50, 2).unwrap();
        assert!(chart("none", &values, &TIME).is_none());
        for value in [1, 1, 1000, 123_456, 1 << 50] {
            values.record(value).unwrap();
        }
        let text = chart("some", &values, &TIME).unwrap().into_string();
        let counts = text.match_indices(" job").filter_map(|(end, _)| {
            let start = text[..end].rfind('"')?;
            text[start + 1..end].parse::<u64>().ok()
        });
        assert_eq!(counts.sum::<u64>(), 5, "{text}");
    }
}
