//! Bar charts: a bar per contestant, with its value beside it.

use anyhow::Result;
use plotters::element::{PathElement, Rectangle, Text};
use plotters::prelude::{Color, IntoDrawingArea, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::curves::{GRID, TEXT, font};
use super::style::{SCALE, Style, Subject};
use crate::types::metric::Metric;

pub(super) struct Bar<'a> {
    pub(super) subject: Subject,
    pub(super) title: &'a str,
    pub(super) value: f64,
}

/// Bars whose values differ by more than this factor are drawn on a logarithmic scale.
const MAX_LINEAR_RATIO: f64 = 50.0;

const WIDTH: i32 = 535;
const ROW: i32 = 26;
/// The space for the value beside the longest bar.
const VALUE_WIDTH: i32 = 76;
/// The space for the labels below.
const FOOT: i32 = 22;
const LONGEST_TITLE: usize = 32;
const CHARACTER: i32 = 7;

/// Whether the bars are drawn on a logarithmic scale.
pub(super) fn is_logarithmic(bars: &[Bar<'_>]) -> bool {
    let positive = || {
        bars.iter()
            .map(|bar| bar.value)
            .filter(|&value| value > 0.0)
    };
    let (min, max) = (positive().reduce(f64::min), positive().reduce(f64::max));
    min.zip(max)
        .is_some_and(|(min, max)| max > MAX_LINEAR_RATIO * min)
}

/// The length of each bar, from 0 to 1, and the ticks of a logarithmic scale.
fn lengths(metric: Metric, bars: &[Bar<'_>]) -> (Vec<f64>, Vec<(f64, String)>) {
    let values = || bars.iter().map(|bar| bar.value);
    if is_logarithmic(bars) {
        // The scale starts below the least value, so that it has a bar as well.
        let positive: Vec<f64> = values()
            .filter(|&value| value > 0.0)
            .flat_map(|value| [value, value / 1.5])
            .collect();
        let axis = Axis::log(&positive, metric);
        let length = |value: f64| {
            if value > 0.0 {
                axis.position(value)
            } else {
                0.0
            }
        };
        let ticks = axis
            .ticks()
            .iter()
            .map(|(value, label)| (axis.position(*value), label.clone()));
        return (values().map(length).collect(), ticks.collect());
    }
    let max = values().fold(0.0, f64::max);
    let length = |value: f64| if max > 0.0 { value / max } else { 0.0 };
    (values().map(length).collect(), Vec::new())
}

pub(super) fn draw(metric: Metric, bars: &[Bar<'_>]) -> Result<String> {
    let titles: Vec<String> = bars.iter().map(|bar| shortened(bar.title)).collect();
    let longest = titles
        .iter()
        .map(|title| title.chars().count())
        .max()
        .unwrap_or(0);
    let left = CHARACTER * i32::try_from(longest)? + 12;
    let (lengths, ticks) = lengths(metric, bars);
    let bottom = ROW * i32::try_from(bars.len())?;
    let foot = if ticks.is_empty() { 4 } else { FOOT };
    let x = |length: f64| {
        px(left) + (length * f64::from(px(WIDTH - VALUE_WIDTH - left))).round() as i32
    };
    let size = (
        WIDTH.unsigned_abs() * SCALE,
        (bottom + foot).unsigned_abs() * SCALE,
    );
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let below = font(11.0).pos(Pos::new(HPos::Center, VPos::Top));
        for (position, label) in ticks {
            let line = vec![(x(position), 0), (x(position), px(bottom))];
            area.draw(&PathElement::new(line, GRID.stroke_width(SCALE)))?;
            area.draw(&Text::new(
                label,
                (x(position), px(bottom + 5)),
                below.clone(),
            ))?;
        }
        let name = font(12.0).pos(Pos::new(HPos::Right, VPos::Center));
        let number = font(12.0).pos(Pos::new(HPos::Left, VPos::Center));
        for (((bar, title), length), row) in bars.iter().zip(titles).zip(lengths).zip(0..) {
            let (top, middle) = (ROW * row, px(ROW * row + ROW / 2));
            let corners = [(x(0.0), px(top + 5)), (x(length), px(top + ROW - 5))];
            area.draw(&Rectangle::new(
                corners,
                Style::of(bar.subject).color.filled(),
            ))?;
            area.draw(&Text::new(title, (px(left - 8), middle), name.clone()))?;
            let value = metric.show(bar.value);
            area.draw(&Text::new(
                value,
                (x(length) + px(6), middle),
                number.clone(),
            ))?;
        }
        let line = vec![(x(0.0), 0), (x(0.0), px(bottom))];
        area.draw(&PathElement::new(line, TEXT.stroke_width(SCALE)))?;
        area.present()?;
    }
    Ok(svg)
}

/// Converts pixels of the page to pixels of the drawing.
fn px(pixels: i32) -> i32 {
    pixels * SCALE as i32
}

fn shortened(title: &str) -> String {
    match title.char_indices().nth(LONGEST_TITLE) {
        Some((end, _)) => format!("{}…", &title[..end]),
        None => title.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::kind::Kind;

    fn bars(values: &[f64]) -> Vec<Bar<'static>> {
        values
            .iter()
            .map(|&value| Bar {
                subject: Subject {
                    kind: Kind::Tokio,
                    other_build: false,
                },
                title: "a",
                value,
            })
            .collect()
    }

    #[test]
    fn a_wide_range_is_logarithmic_and_zero_has_no_bar() {
        let near = bars(&[0.0, 2.0, 100.0]);
        assert!(!is_logarithmic(&near));
        assert_eq!(lengths(Metric::Fds, &near).0, [0.0, 0.02, 1.0]);
        let far = bars(&[0.0, 2.0, 200.0]);
        assert!(is_logarithmic(&far));
        let (far, ticks) = lengths(Metric::Fds, &far);
        assert!(far[0] == 0.0 && far[1] > 0.05 && far[2] > 0.9, "{far:?}");
        assert!(ticks.len() > 2);
        assert_eq!(lengths(Metric::Fds, &bars(&[0.0, 0.0])).0, [0.0, 0.0]);
    }

    #[test]
    fn values_are_beside_the_bars() {
        let svg = draw(Metric::Fds, &bars(&[0.0, 2.0, 2006.0])).expect("drawn");
        assert!(svg.contains("\n2006\n"), "{svg}");
        assert!(shortened(&"é".repeat(40)).ends_with("é…"));
    }
}
