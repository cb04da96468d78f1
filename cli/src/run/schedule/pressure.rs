//! Pressure stall information (PSI): how much of the time tasks wait for processors, memory, or
//! disks (`Documentation/accounting/psi.rst`, Linux 4.20).
//!
//! The kernel can report pressure above a limit by a trigger (Linux 5.2), an open file that epoll
//! waits for. Without privileges that works from Linux 6.4 on, with windows of whole multiples of
//! 2 s. A trigger that has fired is silent for a time that depends on the kernel and on privileges:
//! one to three windows were seen under constant pressure. So its silence does not mean that the
//! pressure is over. From the report on, the time that tasks have waited (`total`) is compared every
//! 2 s, until its growth is below the limit. Where no trigger can be had, the average of 10 s is read
//! before each start.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::conditions::{Hold, read};
use super::pressure_limits::{PressureLimits, PressureOf};
use crate::failure::Failure;

/// The window of triggers.
const WINDOW: Duration = Duration::from_secs(2);
/// The time after which a pressure is looked at again. The kernel updates averages every 2 s.
const RECHECK: Duration = Duration::from_secs(2);

/// The pressure of one resource, above which no job starts.
#[derive(Debug)]
pub(crate) struct PressureLimit {
    of: PressureOf,
    percent: f64,
    file: File,
    source: Source,
    /// The value of `total` when the trigger was opened, until its first report.
    unreported: Option<u64>,
}

/// How pressure is noticed.
#[derive(Debug)]
enum Source {
    /// The average is read.
    Average,
    /// A trigger reports it, and has if there is a value.
    Trigger(Option<Reported>),
}

/// Pressure that was reported, or found since.
#[derive(Clone, Copy, Debug)]
struct Reported {
    at: Instant,
    /// How long tasks had waited by then, in microseconds.
    total: u64,
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
            let average = parse::<f64>(&text, "avg10=").ok_or_else(|| {
                Failure::resource(format!("--pressure cannot use {path}: it has no avg10"))
            })?;
            let trigger = open_trigger(&path, percent);
            let mut limit = PressureLimit {
                of,
                percent,
                file,
                source: Source::Average,
                unreported: parse(&text, "total="),
            };
            if trigger.is_some() {
                limit.source = Source::Trigger(None);
            }
            // A trigger reports nothing in its first window.
            if average >= percent {
                limit.hold_from(Instant::now());
            }
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
    let stall = stall(percent);
    let _ = write!(line, "some {stall} {window}\0");
    // The kernel takes the whole line, or nothing.
    file.write_all(line.as_bytes()).ok()?;
    Some(file)
}

/// How many microseconds of a window tasks wait at a pressure.
fn stall(percent: f64) -> u64 {
    (percent / 100.0 * WINDOW.as_micros() as f64).round() as u64
}

impl PressureLimit {
    /// Notes that the trigger has fired.
    pub(super) fn reported(&mut self, now: Instant) {
        // Without privileges the first report comes at once, whatever the pressure is: the kernel
        // compares with a count that it keeps for privileged triggers only (seen with Linux 6.18).
        if let (Some(opened), Some(total)) = (self.unreported.take(), self.total())
            && total.saturating_sub(opened) < stall(self.percent)
        {
            return;
        }
        self.hold_from(now);
    }

    fn hold_from(&mut self, now: Instant) {
        // Later reports add nothing to the first.
        if let Source::Trigger(None) = self.source {
            self.source = Source::Trigger(self.total().map(|total| Reported { at: now, total }));
        }
    }

    /// Reads the average from now on, because there is no trigger any more.
    pub(super) fn without_trigger(&mut self) {
        self.source = Source::Average;
    }

    /// Why no job may start now.
    pub(super) fn hold(&mut self, now: Instant) -> Option<Hold> {
        let (name, percent) = (self.of.name(), self.percent);
        let reported = match self.source {
            Source::Average => {
                let average: f64 = parse(&read(&self.file).ok()?, "avg10=")?;
                return (average >= percent).then(|| Hold {
                    pause: RECHECK,
                    reason: format!("{name} pressure {average:.1}% >= {percent}%"),
                });
            }
            Source::Trigger(reported) => reported?,
        };
        let passed = now.saturating_duration_since(reported.at);
        let left = RECHECK.saturating_sub(passed);
        if !left.is_zero() {
            return Some(Hold {
                pause: left,
                reason: format!("{name} pressure >= {percent}%"),
            });
        }
        self.source = Source::Trigger(None);
        let text = read(&self.file).ok()?;
        let total: u64 = parse(&text, "total=")?;
        let share = match passed > 2 * RECHECK {
            // No job could start for long, so the growth says little about now.
            true => parse(&text, "avg10=")?,
            false => {
                let waited = total.saturating_sub(reported.total);
                waited as f64 / passed.as_micros() as f64 * 100.0
            }
        };
        (share >= percent).then(|| {
            self.source = Source::Trigger(Some(Reported { at: now, total }));
            Hold {
                pause: RECHECK,
                reason: format!("{name} pressure {share:.1}% >= {percent}%"),
            }
        })
    }

    /// How long tasks have waited, in microseconds.
    fn total(&self) -> Option<u64> {
        parse(&read(&self.file).ok()?, "total=")
    }
}

/// A value of the line `some`: of the time in which at least one task waited. `avg10=` is the
/// percentage of the last 10 s, and `total=` the sum in microseconds.
fn parse<T: FromStr>(text: &str, key: &str) -> Option<T> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("some "));
    let mut fields = lines.next()?.split_ascii_whitespace();
    let value = fields.find_map(|field| field.strip_prefix(key))?;
    value.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn limit(text: &str, percent: f64, source: Source) -> PressureLimit {
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(text.as_bytes(), 0)
            .expect("it is written");
        PressureLimit {
            of: PressureOf::Io,
            percent,
            file,
            source,
            unreported: None,
        }
    }

    const TEXT: &str = "some avg10=12.50 avg60=1.00 avg300=0.10 total=1000\n\
                        full avg10=99.00 avg60=0.00 avg300=0.00 total=0\n";

    #[test]
    fn values_are_those_of_some_tasks() {
        assert_eq!(parse(TEXT, "avg10="), Some(12.5));
        assert_eq!(parse(TEXT, "total="), Some(1000_u64));
        assert_eq!(parse::<f64>("full avg10=99.00\n", "avg10="), None);
        assert_eq!(parse::<f64>("", "avg10="), None);
    }

    #[test]
    fn without_a_trigger_the_average_counts() {
        let now = Instant::now();
        let hold = limit(TEXT, 12.0, Source::Average).hold(now);
        assert_eq!(hold.expect("pressure").reason, "io pressure 12.5% >= 12%");
        assert_eq!(limit(TEXT, 13.0, Source::Average).hold(now), None);
    }

    #[test]
    fn a_first_report_without_pressure_is_ignored() {
        let now = Instant::now();
        let mut limit = limit(TEXT, 10.0, Source::Trigger(None));
        // 10 % of 2 s since the trigger was opened are needed, and 1 ms was waited.
        limit.unreported = Some(0);
        limit.reported(now);
        assert_eq!(limit.hold(now), None);
        limit.reported(now);
        assert!(limit.hold(now).is_some());
    }

    #[test]
    fn reported_pressure_is_over_when_tasks_wait_less() {
        let begun = Instant::now();
        // With a trigger the average does not count.
        let mut limit = limit(TEXT, 10.0, Source::Trigger(None));
        assert_eq!(limit.hold(begun), None);
        limit.reported(begun);
        let soon = begun + RECHECK / 2;
        assert_eq!(limit.hold(soon).map(|hold| hold.pause), Some(RECHECK / 2));
        // Another report changes nothing.
        limit.reported(soon);
        assert_eq!(limit.hold(soon).map(|hold| hold.pause), Some(RECHECK / 2));
        // Tasks have waited for 1 of the 2 s, and then for 0.1 s of the next 2 s.
        let wait = |limit: &PressureLimit, total: u64| {
            let text = format!("some avg10=99.00 avg60=1.00 avg300=0.10 total={total}\n");
            let written = limit.file.write_all_at(text.as_bytes(), 0);
            written.expect("it is written");
        };
        wait(&limit, 1_001_000);
        let hold = limit.hold(begun + RECHECK).expect("pressure");
        assert_eq!(hold.reason, "io pressure 50.0% >= 10%");
        assert_eq!(hold.pause, RECHECK);
        wait(&limit, 1_101_000);
        assert_eq!(limit.hold(begun + 2 * RECHECK), None);
        // After a long time the average counts, which is 99 %.
        limit.reported(begun);
        assert!(limit.hold(begun + 3 * RECHECK).is_some());
        assert_eq!(limit.hold(begun + 4 * RECHECK), None);
        // It is over until the next report.
        wait(&limit, 9_000_000);
        assert_eq!(limit.hold(begun + 3 * RECHECK), None);
        limit.without_trigger();
        assert!(limit.hold(begun).is_some());
    }
}
