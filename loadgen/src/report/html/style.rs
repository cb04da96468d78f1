//! The colour, mark and line width of each contestant in all charts. Colour-blind people can
//! distinguish the colours (most are Paul Tol's), and everybody can distinguish the marks.

use anyhow::Result;
use plotters::element::{ComposedElement, EmptyElement, PathElement, Polygon};
use plotters::prelude::{
    Color, DrawingBackend, IntoDrawingArea, RGBColor, SVGBackend, ShapeStyle, WHITE,
};

use crate::report::summary::Line;
use crate::types::kind::Kind;
use crate::types::run::Run;

/// What has a style of its own: a contestant of this build or of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) kind: Kind,
    pub(super) other_build: bool,
}

impl Subject {
    pub(super) fn of_run(run: &Run) -> Self {
        Self {
            kind: run.contestant,
            other_build: run.build.is_some(),
        }
    }

    pub(super) fn of_line(line: &Line) -> Self {
        Self {
            kind: line.contestant,
            other_build: line.build.is_some(),
        }
    }
}

/// Charts are drawn at this multiple of their size, because their coordinates are integers.
pub(super) const SCALE: u32 = 2;

/// An offset from the marked point.
type Offset = (i32, i32);

pub(super) struct Style {
    pub(super) color: RGBColor,
    width: u32,
    shape: Shape,
    hollow: bool,
}

#[derive(Clone, Copy)]
enum Shape {
    Circle,
    Square,
    Triangle,
    Diamond,
    Wedge,
}

impl Style {
    pub(super) fn of(subject: Subject) -> Self {
        let kind = subject.kind;
        let (color, shape, hollow) = match kind {
            Kind::Exitring => (0x33_22_88, Shape::Circle, false),
            Kind::ExitringInline => (0x44_AA_D9, Shape::Square, false),
            Kind::ExitringNoUsage => (0x66_44_BB, Shape::Circle, true),
            Kind::ExitringWatch => (0x44_AA_99, Shape::Triangle, false),
            Kind::ExitringEpoll => (0x88_88_DD, Shape::Circle, true),
            Kind::ExitringStd => (0x66_99_CC, Shape::Triangle, true),
            Kind::ExitringPreExec => (0x99_44_55, Shape::Square, false),
            Kind::ExitringCgroup => (0x00_44_88, Shape::Diamond, false),
            Kind::Shadow => (0xCC_66_77, Shape::Diamond, false),
            Kind::Tokio => (0xE6_9F_00, Shape::Wedge, false),
            Kind::AsyncProcess => (0x99_99_33, Shape::Circle, true),
            Kind::SigchldScan => (0x88_22_55, Shape::Square, true),
            Kind::ThreadPerChild => (0x11_77_33, Shape::Triangle, true),
            Kind::UringWaitid => (0xBB_55_CC, Shape::Diamond, true),
            Kind::PollFloor => (0x99_77_55, Shape::Square, true),
            Kind::PollFloorWorker => (0xAA_55_33, Shape::Circle, true),
            Kind::PythonAsyncio => (0x00_55_A4, Shape::Circle, true),
            Kind::Node => (0x5A_3E_1B, Shape::Square, true),
            Kind::WaitLoop => (0x66_66_66, Shape::Wedge, true),
            Kind::StdSpawn => (0x77_77_44, Shape::Circle, false),
            Kind::PosixSpawn => (0x33_33_33, Shape::Diamond, false),
            Kind::Go => (0x00_AD_D8, Shape::Triangle, true),
            Kind::Libuv => (0x40_3C_8C, Shape::Wedge, false),
            Kind::SdEvent => (0xD6_45_2F, Shape::Wedge, true),
            Kind::Serve => (0x00_88_88, Shape::Square, false),
            Kind::ServePower => (0x00_55_66, Shape::Square, true),
        };
        let [_, red, green, blue] = u32::to_be_bytes(color);
        let width = if is_exitring(kind) { 3 } else { 2 };
        // The other build has the same colour, but lighter, and the other kind of mark.
        let lighter = |part: u8| match subject.other_build {
            true => part / 2 + 127,
            false => part,
        };
        Self {
            color: RGBColor(lighter(red), lighter(green), lighter(blue)),
            width: width * SCALE,
            shape,
            hollow: hollow != subject.other_build,
        }
    }

    pub(super) fn line(&self) -> ShapeStyle {
        self.color.stroke_width(self.width)
    }

    /// The mark at a point of a chart.
    pub(super) fn mark<C, DB: DrawingBackend>(
        &self,
        at: C,
    ) -> ComposedElement<C, DB, Polygon<Offset>, PathElement<Offset>> {
        let mut corners = self.shape.corners();
        let inside = if self.hollow { WHITE } else { self.color };
        let body = Polygon::new(corners.clone(), inside.filled());
        corners.extend(corners.first().copied());
        EmptyElement::at(at) + body + PathElement::new(corners, self.color.stroke_width(3))
    }
}

impl Shape {
    fn corners(self) -> Vec<Offset> {
        match self {
            Self::Circle => vec![
                (8, 0),
                (7, 4),
                (4, 7),
                (0, 8),
                (-4, 7),
                (-7, 4),
                (-8, 0),
                (-7, -4),
                (-4, -7),
                (0, -8),
                (4, -7),
                (7, -4),
            ],
            Self::Square => vec![(-7, -7), (7, -7), (7, 7), (-7, 7)],
            Self::Triangle => vec![(0, -9), (9, 7), (-9, 7)],
            Self::Diamond => vec![(0, -10), (10, 0), (0, 10), (-10, 0)],
            Self::Wedge => vec![(0, 9), (9, -7), (-9, -7)],
        }
    }
}

pub(super) fn is_exitring(kind: Kind) -> bool {
    kind.is_starter()
        || matches!(
            kind,
            Kind::Exitring
                | Kind::ExitringInline
                | Kind::ExitringNoUsage
                | Kind::ExitringWatch
                | Kind::ExitringEpoll
        )
}

/// A short line with a mark, for legends.
pub(super) fn legend_sample(subject: Subject) -> Result<String> {
    let style = Style::of(subject);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (36 * SCALE, 12 * SCALE)).into_drawing_area();
        let (middle, end) = (6 * SCALE as i32, 36 * SCALE as i32);
        area.draw(&PathElement::new(
            vec![(0, middle), (end, middle)],
            style.line(),
        ))?;
        area.draw(&style.mark((end / 2, middle)))?;
        area.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_contestant_of_each_build_has_its_own_style() {
        let kinds = Kind::value_variants().iter();
        let subjects: Vec<_> = kinds
            .flat_map(|&kind| [false, true].map(|other_build| Subject { kind, other_build }))
            .collect();
        let colors: HashSet<_> = subjects.iter().map(|&of| Style::of(of).color).collect();
        assert_eq!(colors.len(), subjects.len());
        let samples = subjects.iter().map(|&of| legend_sample(of).expect("drawn"));
        assert_eq!(samples.collect::<HashSet<_>>().len(), subjects.len());
    }
}
