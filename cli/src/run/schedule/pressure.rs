//! Pressure stall information (PSI): how much of the time tasks wait for processors, memory, or
//! disks (`Documentation/accounting/psi.rst`, Linux 4.20).
//!
//! The kernel can report pressure above a limit by a trigger (Linux 5.2), an open file that epoll
//! waits for. Without privileges that works from Linux 6.4 on, with windows of whole multiples of
//! 2 s. A trigger fires once in a window as long as there is that much pressure. So pressure counts
//! as over when the trigger has not fired for a little more than a window. Where no trigger can be
//! had, the average of 10 s is read before each start.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::conditions::{Hold, read};
use crate::failure::Failure;

/// The window of triggers.
const WINDOW: Duration = Duration::from_secs(2);
/// The time after which pressure is over, if the trigger does not fire. The kernel checks a trigger
/// ten times in a window.
const OVER: Duration = Duration::from_millis(2300);
/// The time after which the average is read again. The kernel updates it every 2 s.
const RECHECK: Duration = Duration::from_secs(2);

/// A resource whose pressure the kernel measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PressureOf {
    Cpu,
    Memory,
    Io,
}

impl PressureOf {
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
        }
    }
}

/// The value of `--pressure`: percentages of the time in which some task waits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PressureLimits(Vec<(PressureOf, f64)>);

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

/// The pressure of one resource, above which no job starts.
#[derive(Debug)]
pub(crate) struct PressureLimit {
    of: PressureOf,
    percent: f64,
    /// Where the average is read.
    file: File,
    /// With a trigger: when the pressure is over, if it was reported. Without one the average is
    /// read.
    over_at: Option<Option<Instant>>,
}

impl PressureLimits {
    /// Opens the files of the kernel, and the triggers. A trigger is `None` if it cannot be had.
    pub(crate) fn open(&self) -> Result<Vec<(PressureLimit, Option<File>)>, Failure> {
        let limits = self.0.iter().map(|&(of, percent)| {
            let path = format!("/proc/pressure/{}", of.name());
            let file = File::open(&path).and_then(|file| Ok((read(&file)?, file)));
            let (text, file) = file.map_err(|error| {
                Failure::resource(format!("--pressure needs {path}: {error}")).remedy(
                    "boot a kernel with pressure stall information (CONFIG_PSI, from Linux 4.20 on) \
                     with psi=1, or use --load",
                )
            })?;
            let average = parse_average(&text).ok_or_else(|| {
                Failure::resource(format!("--pressure cannot use {path}: it has no avg10"))
            })?;
            let trigger = open_trigger(&path, percent);
            // A trigger reports nothing in its first window.
            let over_at = (average >= percent).then(|| Instant::now() + OVER);
            let limit = PressureLimit {
                of,
                percent,
                file,
                over_at: trigger.is_some().then_some(over_at),
            };
            Ok((limit, trigger))
        });
        limits.collect()
    }
}

/// Opens a file that epoll reports while tasks wait for this part of the time. The kernel refuses it
/// in old versions, without privileges, and where `/proc` is read-only.
fn open_trigger(path: &str, percent: f64) -> Option<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true);
    let mut file = options.custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    let mut line = String::new();
    let window = WINDOW.as_micros();
    let stall = (percent / 100.0 * window as f64).round() as u64;
    let _ = write!(line, "some {stall} {window}\0");
    // The kernel takes the whole line, or nothing.
    file.write_all(line.as_bytes()).ok()?;
    Some(file)
}

impl PressureLimit {
    /// Notes that the trigger has fired.
    pub(super) fn reported(&mut self, now: Instant) {
        if let Some(over_at) = &mut self.over_at {
            *over_at = Some(now + OVER);
        }
    }

    /// Reads the average from now on, because the trigger has ended.
    pub(super) fn without_trigger(&mut self) {
        self.over_at = None;
    }

    /// Why no job may start now.
    pub(super) fn hold(&mut self, now: Instant) -> Option<Hold> {
        let (name, percent) = (self.of.name(), self.percent);
        match &mut self.over_at {
            Some(over_at) => {
                let pause = over_at.map(|over_at| over_at.saturating_duration_since(now));
                let pause = pause.filter(|pause| !pause.is_zero());
                if pause.is_none() {
                    *over_at = None;
                }
                Some(Hold {
                    pause: pause?,
                    reason: format!("{name} pressure >= {percent}%"),
                })
            }
            None => {
                let average = parse_average(&read(&self.file).ok()?)?;
                (average >= percent).then(|| Hold {
                    pause: RECHECK,
                    reason: format!("{name} pressure {average}% >= {percent}%"),
                })
            }
        }
    }
}

/// `avg10` of `some`: the percentage of the last 10 s in which some task waited.
fn parse_average(text: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("some "));
    let mut fields = lines.next()?.split_ascii_whitespace();
    fields
        .find_map(|field| field.strip_prefix("avg10="))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn limit(text: &str, percent: f64, over_at: Option<Option<Instant>>) -> PressureLimit {
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(text.as_bytes(), 0)
            .expect("it is written");
        PressureLimit {
            of: PressureOf::Io,
            percent,
            file,
            over_at,
        }
    }

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

    const TEXT: &str = "some avg10=12.50 avg60=1.00 avg300=0.10 total=1\n\
                        full avg10=99.00 avg60=0.00 avg300=0.00 total=0\n";

    #[test]
    fn the_average_is_that_of_some_tasks() {
        assert_eq!(parse_average(TEXT), Some(12.5));
        assert_eq!(parse_average("full avg10=99.00\n"), None);
        assert_eq!(parse_average(""), None);
    }

    #[test]
    fn without_a_trigger_the_average_counts() {
        let now = Instant::now();
        let hold = limit(TEXT, 12.0, None).hold(now).expect("pressure");
        assert_eq!(hold.reason, "io pressure 12.5% >= 12%");
        assert_eq!(limit(TEXT, 13.0, None).hold(now), None);
    }

    #[test]
    fn pressure_is_over_when_its_trigger_is_silent_for_a_window() {
        let now = Instant::now();
        // With a trigger the average does not count.
        let mut limit = limit(TEXT, 1.0, Some(None));
        assert_eq!(limit.hold(now), None);
        limit.reported(now);
        let hold = limit.hold(now + WINDOW).expect("pressure");
        assert_eq!(hold.pause, OVER - WINDOW);
        limit.reported(now + WINDOW);
        assert!(limit.hold(now + OVER).is_some());
        assert_eq!(limit.hold(now + WINDOW + OVER), None);
        limit.without_trigger();
        assert!(limit.hold(now).is_some());
    }
}
