//! An amount of memory.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number of bytes above 0. It is written with a unit, as in 10MB or 1.5GiB, and saved as a
/// number.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub(crate) struct ByteSize(u64);

/// The units, the larger ones first. Those with an `i` are powers of 1,024.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("B", 1),
];

impl ByteSize {
    pub(crate) fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit_at = text
            .find(|character: char| character.is_ascii_alphabetic())
            .unwrap_or(text.len());
        let (number, unit) = (text[..unit_at].trim(), text[unit_at..].trim());
        let known = |(name, _): &&(&str, u64)| name.eq_ignore_ascii_case(unit);
        let (_, factor) = UNITS.iter().find(known).ok_or(match unit.is_empty() {
            true => "no unit; an example: 10MB".to_owned(),
            false => {
                format!("{unit:?} is no unit; there are B, kB, MB, GB, TB, KiB, MiB, GiB, TiB")
            }
        })?;
        let number: f64 = number
            .parse()
            .map_err(|_| format!("{number:?} is not a number; an example: 10MB"))?;
        let bytes = number * *factor as f64;
        // 8 EiB: no machine has as much, and a number of this size fits into 64 bits.
        match (1.0..(1_u64 << 63) as f64).contains(&bytes) {
            true => Ok(Self(bytes as u64)),
            false => Err("not at least 1B and less than 8 EiB".into()),
        }
    }
}

impl fmt::Display for ByteSize {
    /// In a unit that needs at most one decimal place and four digits before it, or else rounded in
    /// the largest power of 1,000.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_short = |(_, factor): &&(&str, u64)| {
            let exact = u128::from(self.0) * 10 % u128::from(*factor) == 0;
            exact && (1..10_000).contains(&(self.0 / factor))
        };
        let rounds = |(name, factor): &&(&str, u64)| self.0 >= *factor && !name.contains('i');
        let unit = UNITS.iter().find(is_short);
        let unit = unit.or_else(|| UNITS.iter().find(rounds));
        let (name, factor) = unit.copied().unwrap_or(("B", 1));
        let tenths = (self.0 as f64 / factor as f64 * 10.0).round() / 10.0;
        write!(f, "{tenths} {name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_number_and_a_unit() {
        for (text, bytes, shown) in [
            ("10MB", 10_000_000, "10 MB"),
            ("10 mb", 10_000_000, "10 MB"),
            ("10GB", 10_000_000_000, "10 GB"),
            ("1.5GiB", 3 << 29, "1.5 GiB"),
            ("64KiB", 64 << 10, "64 KiB"),
            ("1B", 1, "1 B"),
            ("1234567B", 1_234_567, "1.2 MB"),
            ("2TB", 2_000_000_000_000, "2 TB"),
            ("23378424KiB", 23_378_424 << 10, "23.9 GB"),
        ] {
            let size: ByteSize = text.parse().expect(text);
            assert_eq!(size.bytes(), bytes, "{text}");
            assert_eq!(size.to_string(), shown);
        }
        for (text, why) in [
            ("10", "no unit"),
            ("", "no unit"),
            ("10 parsecs", "\"parsecs\" is no unit"),
            ("MB", "not a number"),
            ("1.2.3MB", "not a number"),
            ("0MB", "at least 1B"),
            ("-1MB", "at least 1B"),
            ("9000000TiB", "less than 8 EiB"),
        ] {
            let error = text.parse::<ByteSize>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_size_is_saved_as_a_number() {
        let size = ByteSize::from_bytes(5);
        assert_eq!(serde_json::to_string(&size).expect("it is written"), "5");
        assert_eq!(
            serde_json::from_str::<ByteSize>("5").expect("it is read"),
            size
        );
    }
}
