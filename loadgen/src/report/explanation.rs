//! The line under a comparison: how its numbers were made.

use super::bootstrap::{MIN_VALUES, RESAMPLES};
use super::results::Report;
use crate::types::scenario::Scenario;

pub(crate) fn text(report: &Report) -> String {
    let lines = || report.summary.iter();
    let least = lines().map(|line| line.rounds).min().unwrap_or(0);
    let most = lines().map(|line| line.rounds).max().unwrap_or(0);
    let rounds = match (least == most, most) {
        (true, 1) => "1 round".to_owned(),
        (true, _) => format!("{most} rounds"),
        (false, _) => format!("{least} to {most} rounds"),
    };
    let mut text = match most {
        0 | 1 => format!("Values of {rounds}."),
        _ => format!("Medians of {rounds} (minimum to maximum)."),
    };
    if let Some(size) = report.scenarios.first().and_then(Scenario::resident) {
        text += &format!(" The spawning process had {size} of resident memory in small pages.");
    }
    if !lines().any(|line| !line.is_reference && has_ratio(report, line)) {
        return text;
    }
    let reference = match (&report.against, lines().find(|line| line.is_reference)) {
        (Some(build), _) => format!("the same contestant of the build \"{build}\""),
        (None, Some(line)) => line.title.clone(),
        (None, None) => "the reference".into(),
    };
    text += &format!(" ×: the median of the ratios to {reference} in the same round");
    if most < MIN_VALUES {
        return text + &format!("; too few rounds for an interval, which needs {MIN_VALUES}.");
    }
    text += &format!(
        " (its 95 % interval, from {} bootstrap resamples of the rounds); no difference is shown if the interval contains 1.",
        thousands(RESAMPLES)
    );
    if least < MIN_VALUES {
        text += &format!(" No interval: too few rounds, it needs {MIN_VALUES}.");
    }
    text
}

fn has_ratio(report: &Report, line: &super::summary::Line) -> bool {
    let spread = line.metrics.get(&report.headline);
    spread.is_some_and(|spread| spread.ratio.is_some())
}

/// A number from 1,000 up to 999,999.
fn thousands(number: u32) -> String {
    format!("{},{:03}", number / 1000, number % 1000)
}
