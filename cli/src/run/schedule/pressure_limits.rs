//! The value of `--pressure`.

use std::str::FromStr;

/// A resource whose pressure the kernel measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PressureOf {
    Cpu,
    Memory,
    Io,
}

impl PressureOf {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
        }
    }
}

/// The value of `--pressure`: percentages of the time in which some task waits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PressureLimits(pub(super) Vec<(PressureOf, f64)>);

impl FromStr for PressureLimits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WANTED: &str = "a pressure is cpu=P, memory=P or io=P, with a percentage of the time, \
                              as in cpu=50,io=20";
        let mut limits: Vec<(PressureOf, f64)> = Vec::new();
        for part in text.split(',') {
            let (name, percent) = part.split_once('=').ok_or(WANTED)?;
            let of = [PressureOf::Cpu, PressureOf::Memory, PressureOf::Io]
                .into_iter()
                .find(|of| of.name() == name)
                .ok_or(WANTED)?;
            let percent = percent.strip_suffix('%').unwrap_or(percent);
            let percent: f64 = percent.parse().map_err(|_| WANTED)?;
            if !(0.01..=100.0).contains(&percent) {
                return Err(format!("a percentage is from 0.01 to 100; {WANTED}"));
            }
            if limits.iter().any(|(other, _)| *other == of) {
                return Err(format!("{name} is given twice; {WANTED}"));
            }
            limits.push((of, percent));
        }
        Ok(Self(limits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_parsed() {
        let limits: PressureLimits = "cpu=50,io=0.5%".parse().expect("limits");
        assert_eq!(limits.0, [(PressureOf::Cpu, 50.0), (PressureOf::Io, 0.5)]);
        for text in [
            "",
            "cpu",
            "cpu=",
            "cpu=x",
            "cpu=0",
            "cpu=101",
            "cpu=-1",
            "cpu=nan",
            "gpu=1",
            "cpu=1,",
            "cpu=1,cpu=2",
            "50",
            "CPU=1",
        ] {
            text.parse::<PressureLimits>().expect_err(text);
        }
    }
}
