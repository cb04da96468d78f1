//! Medians, and the uncertainty of a median.
//!
//! The method is that of the load generator (`loadgen/src/report/bootstrap.rs`): the percentile
//! bootstrap with expanded percentiles. With few values the plain percentiles are too narrow.

use fastrand::Rng;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// How often the bootstrap resamples the rounds.
const RESAMPLES: usize = 10_000;
/// With fewer rounds no interval inside their range has a confidence of 95 %.
const MIN_ROUNDS: usize = 6;
/// The part of the confidence that is left to each side.
const TAIL: f64 = 0.025;

/// A median of paired ratios, with a 95 % interval from [`MIN_ROUNDS`] rounds on.
pub(crate) struct Ratio {
    median: f64,
    interval: Option<(f64, f64)>,
}

impl Ratio {
    /// The ratio of two measures that were taken in the same rounds.
    pub(crate) fn of(measured: &[f64], reference: &[f64]) -> Self {
        let pairs = measured.iter().zip(reference);
        let ratios: Vec<f64> = pairs
            .map(|(measured, reference)| measured / reference)
            .collect();
        Self {
            median: median(&ratios),
            interval: (ratios.len() >= MIN_ROUNDS).then(|| interval(&ratios)),
        }
    }
}

/// The interval of the median of at least two values.
fn interval(values: &[f64]) -> (f64, f64) {
    // The same seed for every table, so that the same measures give the same interval.
    let mut rng = Rng::with_seed(1);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let sample: Vec<f64> = values
                .iter()
                .map(|_| values[rng.usize(..values.len())])
                .collect();
            median(&sample)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let beyond = (tail(values.len()) * RESAMPLES as f64) as usize;
    (medians[beyond], medians[RESAMPLES - 1 - beyond])
}

/// The part of the resamples beyond each end of the interval of so many values.
fn tail(count: usize) -> f64 {
    let count = count as f64;
    let student = StudentsT::new(0.0, 1.0, count - 1.0).expect("there are two values");
    let normal = Normal::new(0.0, 1.0).expect("a deviation of 1");
    normal.cdf((count / (count - 1.0)).sqrt() * student.inverse_cdf(TAIL))
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2}", self.median)?;
        match self.interval {
            Some((low, high)) => write!(f, " ({low:.2} to {high:.2})"),
            None => Ok(()),
        }
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}
