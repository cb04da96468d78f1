//! The name of a saved build of the load generator.

use std::fmt;
use std::str::FromStr;

/// A name that is a single component of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaselineName(String);

const LONGEST: usize = 64;

impl BaselineName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BaselineName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let first = text
            .chars()
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric());
        match first && text.len() <= LONGEST && text.chars().all(allowed) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!(
                "a name has up to {LONGEST} letters, digits, dots, dashes and underscores, and starts with a letter or a digit"
            )),
        }
    }
}

impl fmt::Display for BaselineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_single_component_of_a_path() {
        for good in ["main", "v0.1.0", "a-b_c", "1"] {
            assert_eq!(good.parse::<BaselineName>().expect(good).as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            ".x",
            "-x",
            "a/b",
            "a b",
            "é",
            &"x".repeat(65),
        ] {
            assert!(bad.parse::<BaselineName>().is_err(), "{bad}");
        }
    }
}
