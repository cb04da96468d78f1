//! From single latencies to percentiles.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

/// Percentiles in nanoseconds, to three significant digits.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p99_9: u64,
    pub(crate) max: u64,
}

impl Percentiles {
    pub(crate) fn of(latencies_ns: impl IntoIterator<Item = u64>) -> Result<Self> {
        let mut histogram = Histogram::<u64>::new(3)?;
        for latency in latencies_ns {
            histogram.record(latency)?;
        }
        Ok(Self {
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p99_9: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_known_latencies() {
        let percentiles = Percentiles::of((1..=1000).map(|n| n * 1000)).expect("in range");
        let near = |value: u64, expected: u64| value.abs_diff(expected) <= expected / 1000;
        assert!(near(percentiles.p50, 500_000), "{percentiles:?}");
        assert!(near(percentiles.p90, 900_000), "{percentiles:?}");
        assert!(near(percentiles.p99, 990_000), "{percentiles:?}");
        assert!(near(percentiles.p99_9, 999_000), "{percentiles:?}");
        assert!(near(percentiles.max, 1_000_000), "{percentiles:?}");
    }
}
