//! Medians, and the uncertainty of a median.

use fastrand::Rng;

/// How often the bootstrap resamples the rounds.
const RESAMPLES: usize = 10_000;

/// A median of paired ratios, with a 95 % interval.
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Ratio {
    /// The ratio of two measures that were taken in the same rounds. The interval is the percentile
    /// bootstrap of the median of the ratios of each round.
    pub(crate) fn of(measured: &[f64], reference: &[f64]) -> Self {
        let pairs = measured.iter().zip(reference);
        let ratios: Vec<f64> = pairs
            .map(|(measured, reference)| measured / reference)
            .collect();
        // The same seed for every table, so that the same measures give the same interval.
        let mut rng = Rng::with_seed(1);
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let sample: Vec<f64> = ratios
                    .iter()
                    .map(|_| ratios[rng.usize(..ratios.len())])
                    .collect();
                median(&sample)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        let tail = RESAMPLES / 40;
        Self {
            median: median(&ratios),
            low: medians[tail],
            high: medians[RESAMPLES - 1 - tail],
        }
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { median, low, high } = self;
        write!(f, "{median:.2} ({low:.2} to {high:.2})")
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
