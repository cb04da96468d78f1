//! The width of an interval, as a part of the value.

use std::fmt;
use std::str::FromStr;

/// A part of a value, above 0 and at most 1, which is written in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Width(f64);

impl Width {
    pub(crate) fn from_part(part: f64) -> Self {
        Self(part)
    }

    pub(crate) fn part(self) -> f64 {
        self.0
    }
}

impl FromStr for Width {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text
            .strip_suffix('%')
            .ok_or("no percent sign; an example: 5%")?;
        let percent: f64 = digits
            .trim()
            .parse()
            .map_err(|_| format!("{:?} is not a number; an example: 5%", digits.trim()))?;
        match percent > 0.0 && percent <= 100.0 {
            true => Ok(Self(percent / 100.0)),
            false => Err("not above 0% and at most 100%".into()),
        }
    }
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Digits that only a binary fraction has are not shown.
        write!(f, "{} %", (self.0 * 1e6).round() / 1e4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_width_is_a_percentage_above_zero() {
        for (text, part, shown) in [
            ("5%", 0.05, "5 %"),
            ("2.5 %", 0.025, "2.5 %"),
            ("100%", 1.0, "100 %"),
            ("7%", 0.07, "7 %"),
        ] {
            let width: Width = text.parse().expect(text);
            assert!((width.part() - part).abs() < 1e-9, "{text}");
            assert_eq!(width.to_string(), shown);
        }
        for (text, why) in [
            ("5", "percent sign"),
            ("0.05", "percent sign"),
            ("five%", "not a number"),
            ("0%", "above 0%"),
            ("-1%", "above 0%"),
            ("101%", "at most 100%"),
            ("NaN%", "above 0%"),
        ] {
            let error = text.parse::<Width>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
