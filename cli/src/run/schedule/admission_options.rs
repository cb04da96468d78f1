//! The options that hold up starts.

use std::fs::File;
use std::str::FromStr;

use clap::Args;

use super::conditions::Conditions;
use super::job_limit::JobLimit;
use super::pressure_limits::PressureLimits;
use crate::failure::Failure;
use crate::size;

/// What the machine must be like for another job to start.
#[derive(Debug, Args)]
pub(crate) struct AdmissionOptions {
    /// Start jobs only while the load is below N, or P% of the processors
    ///
    /// The load is the average of the last minute, or the number of threads that are running or
    /// runnable now, if that is more.
    #[arg(
        long,
        help_heading = "Starts",
        hide_short_help = true,
        value_name = "N|P%",
        allow_negative_numbers = true
    )]
    load: Option<LoadLimit>,

    /// Start jobs only while SIZE of memory is free, as in 2G
    ///
    /// While less than half of that is free, the youngest job is ended and put back, unless it is
    /// the only one.
    #[arg(long, help_heading = "Starts", hide_short_help = true, value_name = "SIZE", value_parser = size::parse)]
    memfree: Option<u64>,

    /// Start jobs only below a pressure, as in cpu=50,io=20
    ///
    /// The values are percentages of the time in which some process of the machine waits for cpu,
    /// memory or io (pressure stall information).
    #[arg(
        long,
        help_heading = "Starts",
        hide_short_help = true,
        value_name = "cpu=P,memory=P,io=P"
    )]
    pressure: Option<PressureLimits>,
}

impl AdmissionOptions {
    /// The conditions, if there are any, and the triggers of pressures.
    pub(crate) fn open(&self) -> Result<(Option<Conditions>, Vec<Option<File>>), Failure> {
        if self.load.is_none() && self.memfree.is_none() && self.pressure.is_none() {
            return Ok((None, Vec::new()));
        }
        let pressure = self.pressure.as_ref().map(PressureLimits::open);
        let (limits, triggers) = pressure
            .transpose()?
            .unwrap_or_default()
            .into_iter()
            .unzip();
        let load = self.load.map(|LoadLimit(load)| load);
        Ok((
            Some(Conditions::open(load, self.memfree, limits)?),
            triggers,
        ))
    }
}

/// The load below which jobs start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LoadLimit(f64);

/// What a limit of 0 means, as in GNU parallel: with 0 itself no job would ever start.
const LEAST_LOAD: f64 = 0.01;

impl FromStr for LoadLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = match text.strip_suffix('%') {
            Some(percent) => (percent, processors() / 100.0),
            None => (text, 1.0),
        };
        match number.parse::<f64>() {
            Ok(0.0) => Ok(Self(LEAST_LOAD)),
            // A sign would mean "more or less than the processors" in GNU parallel.
            Ok(number)
                if number > 0.0 && number.is_finite() && !text.starts_with(['+', '-']) =>
            {
                Ok(Self(number * unit))
            }
            _ => Err("a load is a number, such as 8 or 0.5, or a percentage of the processors, such as 100%".into()),
        }
    }
}

fn processors() -> f64 {
    JobLimit::default().get() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_numbers_or_percentages_of_the_processors() {
        assert_eq!("8".parse(), Ok(LoadLimit(8.0)));
        assert_eq!("0.5".parse(), Ok(LoadLimit(0.5)));
        assert_eq!("100%".parse(), Ok(LoadLimit(processors())));
        assert_eq!("0".parse(), Ok(LoadLimit(LEAST_LOAD)));
        for text in [
            "", "%", "x", "-1", "+1", "-50%", "nan", "inf", "1e999", "8 ", "80%%",
        ] {
            text.parse::<LoadLimit>().expect_err(text);
        }
    }
}
