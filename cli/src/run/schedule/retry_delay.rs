//! The time between attempts at a job (`--retry-delay`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::duration;

/// A longer delay counts as this long: a hundred years.
const DELAY_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The delay after the first attempt, which doubles up to a maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryDelay {
    first: Duration,
    max: Duration,
}

impl RetryDelay {
    /// The delay after an attempt has failed. Attempts count from 1.
    pub(crate) fn after(self, attempt: u32) -> Duration {
        let doubled = 2_u32.checked_pow(attempt.saturating_sub(1));
        let delay = doubled.and_then(|factor| self.first.checked_mul(factor));
        delay.map_or(self.max, |delay| delay.min(self.max))
    }
}

impl fmt::Display for RetryDelay {
    /// As it is parsed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, max) = (self.first.as_secs_f64(), self.max.as_secs_f64());
        write!(f, "{first}..{max}")
    }
}

impl FromStr for RetryDelay {
    type Err = String;

    /// Parses `2s`, which is the same delay each time, or `1s..30s`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (first, max) = match text.split_once("..") {
            Some((first, max)) => (duration::parse(first)?, duration::parse(max)?),
            None => {
                let delay = duration::parse(text)?;
                (delay, delay)
            }
        };
        if first > max {
            return Err("the first delay is above the longest; write 1s..30s".into());
        }
        if first.is_zero() && !max.is_zero() {
            return Err("a delay of zero stays zero when it is doubled; write 100ms..30s".into());
        }
        Ok(Self {
            first: first.min(DELAY_MAX),
            max: max.min(DELAY_MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let delays = |text: &str| {
            let delay: RetryDelay = text.parse().expect(text);
            [1, 2, 3, 4, 40, u32::MAX].map(|attempt| delay.after(attempt).as_secs_f64())
        };
        assert_eq!(delays("1s..5s"), [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]);
        assert_eq!(delays("0.5"), [0.5; 6]);
        assert_eq!(delays("0"), [0.0; 6]);
        let centuries = delays("1e18..1e19");
        assert_eq!(centuries, [DELAY_MAX.as_secs_f64(); 6]);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "", "..", "1s..", "..1s", "5s..1s", "0..1s", "nan", "1s..nan", "-1", "inf", "1...2",
        ] {
            text.parse::<RetryDelay>().expect_err(text);
        }
    }
}
