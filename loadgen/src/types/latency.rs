//! Latencies and their percentiles.

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The number of samples that must lie beyond a percentile. With fewer it is not significant.
const SAMPLES_BEYOND: f64 = 10.0;

/// Percentiles in nanoseconds, to three significant digits.
///
/// A percentile is null if fewer than ten samples lie beyond it: p99 needs 1,000 samples in all,
/// p99.9 needs 10,000.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Percentiles {
    pub(crate) samples: u64,
    pub(crate) p50: Option<u64>,
    pub(crate) p90: Option<u64>,
    pub(crate) p99: Option<u64>,
    pub(crate) p99_9: Option<u64>,
    pub(crate) max: Option<u64>,
}

/// Latencies in nanoseconds.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Histogram::new(3)?))
    }

    #[cfg(test)]
    pub(crate) fn of(latencies_ns: impl IntoIterator<Item = u64>) -> Result<Self> {
        let mut latencies = Self::new()?;
        for ns in latencies_ns {
            latencies.record(ns)?;
        }
        Ok(latencies)
    }

    pub(crate) fn record(&mut self, ns: u64) -> Result<()> {
        Ok(self.0.record(ns)?)
    }

    pub(crate) fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    pub(crate) fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// The value at a quantile, if there are enough samples.
    pub(crate) fn at(&self, quantile: f64) -> Option<u64> {
        // Slightly less than ten, because 1 - 0.99 is not exactly 0.01.
        let enough = self.0.len() as f64 * (1.0 - quantile) > SAMPLES_BEYOND - 1e-6;
        enough.then(|| self.0.value_at_quantile(quantile))
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        Percentiles {
            samples: self.0.len(),
            p50: self.at(0.5),
            p90: self.at(0.9),
            p99: self.at(0.99),
            p99_9: self.at(0.999),
            max: (!self.0.is_empty()).then(|| self.0.max()),
        }
    }

    /// Encodes the histogram in HdrHistogram's V2 format in base64, as its tools exchange it.
    pub(crate) fn encode(&self) -> Result<String> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&self.0, &mut bytes)?;
        Ok(BASE64_STANDARD.encode(bytes))
    }

    pub(crate) fn decode(text: &str) -> Result<Self> {
        let bytes = BASE64_STANDARD.decode(text).context("not base64")?;
        let histogram = Deserializer::new().deserialize(&mut bytes.as_slice());
        let mut histogram: Histogram<u64> = histogram.context("not an HdrHistogram")?;
        // Histograms that are added later may hold larger values.
        histogram.auto(true);
        Ok(Self(histogram))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thousandths(count: u64) -> Latencies {
        Latencies::of((1..=count).map(|n| n * 1_000_000 / count)).expect("in range")
    }

    #[test]
    fn percentiles_of_known_latencies() {
        let percentiles = thousandths(10_000).percentiles();
        let near = |value: Option<u64>, expected: u64| {
            value.is_some_and(|value| value.abs_diff(expected) <= expected / 1000)
        };
        assert_eq!(percentiles.samples, 10_000);
        assert!(near(percentiles.p50, 500_000), "{percentiles:?}");
        assert!(near(percentiles.p90, 900_000), "{percentiles:?}");
        assert!(near(percentiles.p99, 990_000), "{percentiles:?}");
        assert!(near(percentiles.p99_9, 999_000), "{percentiles:?}");
        assert!(near(percentiles.max, 1_000_000), "{percentiles:?}");
    }

    #[test]
    fn a_percentile_with_too_few_samples_is_null() {
        let none = Latencies::new().expect("there is memory").percentiles();
        assert_eq!(none, Percentiles::default());
        for (samples, known) in [
            (19, [false; 4]),
            (20, [true, false, false, false]),
            (100, [true, true, false, false]),
            (1000, [true, true, true, false]),
            (9999, [true, true, true, false]),
            (10_000, [true; 4]),
        ] {
            let p = thousandths(samples).percentiles();
            let present = [p.p50, p.p90, p.p99, p.p99_9].map(|p| p.is_some());
            assert_eq!(present, known, "{samples}");
            assert!(p.max.is_some());
        }
    }

    #[test]
    fn a_decoded_histogram_equals_the_encoded_one() {
        let latencies = thousandths(5000);
        let text = latencies.encode().expect("it fits");
        let mut again = Latencies::decode(&text).expect("it is a histogram");
        assert_eq!(again.histogram(), latencies.histogram());
        let later = Latencies::of([60_000_000_000]).expect("in range");
        again.add(&later).expect("in range");
        assert_eq!(again.percentiles().samples, 5001);
        assert!(Latencies::decode("?").is_err());
        assert!(Latencies::decode("aGVsbG8=").is_err());
    }
}
