//! Line charts: a line per contestant.

use anyhow::Result;
use plotters::chart::ChartBuilder;
use plotters::prelude::{Color, IntoDrawingArea, IntoFont, RGBColor, SVGBackend, TRANSPARENT};
use plotters::series::LineSeries;
use plotters::style::TextStyle;

use super::axis::{Axis, nines};
use super::style::{SCALE, Style, Subject, is_exitring};
use crate::types::latency::Latencies;

pub(super) const TEXT: RGBColor = RGBColor(0x33, 0x3a, 0x44);
pub(super) const GRID: RGBColor = RGBColor(0xdd, 0xe1, 0xe6);
const AXIS: RGBColor = RGBColor(0x8a, 0x93, 0x9e);
/// Points per nine of a percentile curve.
const POINTS_PER_NINE: u32 = 40;

pub(super) struct Curve {
    pub(super) subject: Subject,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) marks: Vec<(f64, f64)>,
}

pub(super) struct Plot {
    /// In pixels of the page.
    pub(super) size: (u32, u32),
    pub(super) x: Axis,
    pub(super) x_title: &'static str,
    pub(super) y: Axis,
    pub(super) y_title: String,
    pub(super) curves: Vec<Curve>,
}

/// The font of the page, with the size in pixels of the page. Plotters shrinks fonts by the factor
/// that is applied here.
pub(super) fn font(size: f64) -> TextStyle<'static> {
    ("system-ui, sans-serif", size * f64::from(SCALE) * 1.24)
        .into_font()
        .color(&TEXT)
}

impl Plot {
    pub(super) fn draw(self) -> Result<String> {
        let size = (self.size.0 * SCALE, self.size.1 * SCALE);
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            let mut chart = ChartBuilder::on(&area)
                .margin_top(8 * SCALE)
                .margin_right(24 * SCALE)
                .x_label_area_size(44 * SCALE)
                .y_label_area_size(72 * SCALE)
                .build_cartesian_2d(self.x, self.y)?;
            chart
                .configure_mesh()
                .x_desc(self.x_title)
                .y_desc(self.y_title)
                .light_line_style(TRANSPARENT)
                .bold_line_style(GRID.stroke_width(SCALE))
                .axis_style(AXIS.stroke_width(SCALE))
                .label_style(font(12.0))
                .axis_desc_style(font(12.5))
                .set_all_tick_mark_size(4 * SCALE)
                .draw()?;
            // exitring is drawn on top.
            let (ours, others): (Vec<_>, Vec<_>) = self
                .curves
                .into_iter()
                .partition(|curve| is_exitring(curve.subject.kind));
            for curve in others.into_iter().chain(ours.into_iter().rev()) {
                let style = Style::of(curve.subject);
                chart.draw_series(LineSeries::new(curve.points, style.line()))?;
                chart.draw_series(curve.marks.into_iter().map(|point| style.mark(point)))?;
            }
            area.present()?;
        }
        Ok(svg)
    }
}

/// The latency over the quantiles that have enough samples; `None` if that gives less than two
/// points.
pub(super) fn percentile_curve(subject: Subject, latencies: &Latencies) -> Option<Curve> {
    let point = |quantile: f64| {
        // Zero has no position on the axis.
        latencies
            .at(quantile)
            .map(|ns| (quantile, ns.max(1) as f64))
    };
    let steps = (0..).map(|step| 1.0 - 10_f64.powf(-f64::from(step) / f64::from(POINTS_PER_NINE)));
    let points: Vec<_> = steps.map_while(point).collect();
    let whole = (1..).map(|count| 1.0 - 10_f64.powi(-count));
    let marks = point(0.5)
        .into_iter()
        .chain(whole.map_while(point))
        .collect();
    (points.len() > 1).then_some(Curve {
        subject,
        points,
        marks,
    })
}

/// The number of nines at the end of the longest percentile curve.
pub(super) fn max_nines(curves: &[Curve]) -> f64 {
    let ends = curves.iter().filter_map(|curve| curve.points.last());
    ends.map(|&(quantile, _)| nines(quantile))
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::kind::Kind;

    fn curve(samples: u64) -> Option<Curve> {
        let latencies = Latencies::of((1..=samples).map(|n| n * 1000)).expect("in range");
        let subject = Subject {
            kind: Kind::Exitring,
            other_build: false,
        };
        percentile_curve(subject, &latencies)
    }

    #[test]
    fn a_curve_ends_where_fewer_than_ten_samples_lie_beyond() {
        for (samples, end, marks) in [
            (100, 1.0, 2),
            (1000, 2.0, 3),
            (1200, 2.075, 3),
            (100_000, 4.0, 5),
        ] {
            let curve = curve(samples).expect("enough samples");
            assert!((max_nines(&[curve]) - end).abs() < 1e-6, "{samples}");
            let marked = self::curve(samples).map(|curve| curve.marks.len());
            assert_eq!(marked, Some(marks), "{samples}");
        }
        assert!(curve(10).is_none());
        assert!(curve(0).is_none());
    }

    #[test]
    fn a_curve_contains_the_median_and_never_falls() {
        let curve = curve(10_000).expect("enough samples");
        assert_eq!(curve.marks[0].0, 0.5);
        assert!((curve.marks[0].1 / 5_000_000.0 - 1.0).abs() < 0.002);
        assert!(
            curve
                .points
                .is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1)
        );
    }
}
