//! What the machine must be like for another job to start (`--load`, `--memfree`, `--pressure`).
//!
//! A spawner evaluates the conditions before each start, under the lock of the admission. So no two
//! starts rely on the same state. Where one does not hold, the spawner sleeps and looks again.
//! Pressure is reported by the kernel where it can be (see `pressure`).
//!
//! All times are of the monotonic clock.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::pressure::PressureLimit;
use crate::failure::Failure;
use crate::size;

const LOAD_FILE: &str = "/proc/loadavg";
const MEMORY_FILE: &str = "/proc/meminfo";
/// The time until the conditions are evaluated again.
const RECHECK: Duration = Duration::from_secs(1);
/// The least time between two starts, so that the state of the machine includes the job that started
/// last.
pub(crate) const SPACING: Duration = Duration::from_millis(10);
/// How much of a file in /proc is read. What is looked for is at its beginning.
const READ_MAX: usize = 1024;

/// The conditions for a start.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    load: Option<(File, f64)>,
    memory: Option<(File, u64)>,
    pub(super) pressure: Vec<PressureLimit>,
}

/// Why no job may start, and for how long at least.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hold {
    pub(crate) pause: Duration,
    pub(crate) reason: String,
}

impl Conditions {
    /// Starts need a load below `load`, `memory` available bytes, and pressures below the limits.
    pub(crate) fn open(
        load: Option<f64>,
        memory: Option<u64>,
        pressure: Vec<PressureLimit>,
    ) -> Result<Self, Failure> {
        let mut conditions = Self {
            pressure,
            ..Self::default()
        };
        if let Some(limit) = load {
            let file = open_checked("--load", LOAD_FILE, |text| parse_load(text).is_some())?;
            conditions.load = Some((file, limit));
        }
        if let Some(limit) = memory {
            let has = |text: &str| parse_available(text).is_some();
            conditions.memory = Some((open_checked("--memfree", MEMORY_FILE, has)?, limit));
        }
        Ok(conditions)
    }

    /// Why no job may start now. A file that cannot be read any more holds nothing up.
    pub(super) fn hold(&mut self, now: Instant) -> Option<Hold> {
        if let Some((file, limit)) = &self.load
            && let Some(load) = read(file).ok().and_then(|text| parse_load(&text))
            && load >= *limit
        {
            return Some(Hold {
                pause: RECHECK,
                reason: format!("load {load:.1} >= {limit}"),
            });
        }
        if let Some((file, limit)) = &self.memory
            && let Some(available) = read(file).ok().and_then(|text| parse_available(&text))
            && available < *limit
        {
            let (available, limit) = (size::show(available), size::show(*limit));
            return Some(Hold {
                pause: RECHECK,
                reason: format!("free memory {available} < {limit}"),
            });
        }
        self.pressure.iter_mut().find_map(|limit| limit.hold(now))
    }

    /// The available memory, if it is less than half of what a start needs.
    pub(super) fn memory_shortage(&self) -> Option<u64> {
        let (file, limit) = self.memory.as_ref()?;
        let available = parse_available(&read(file).ok()?)?;
        (available < limit / 2).then_some(available)
    }
}

fn open_checked(
    option: &str,
    path: &str,
    is_valid: impl FnOnce(&str) -> bool,
) -> Result<File, Failure> {
    let cannot = |why: String| {
        Failure::resource(format!("{option} needs {path}: {why}"))
            .remedy(format!("mount /proc, or leave out {option}"))
    };
    let file = File::open(path).map_err(|error| cannot(error.to_string()))?;
    let text = read(&file).map_err(|error| cannot(error.to_string()))?;
    match is_valid(&text) {
        true => Ok(file),
        false => Err(cannot("it does not have the value".into())),
    }
}

/// Reads the beginning of a file in /proc, which the kernel writes anew for each read at offset 0.
pub(super) fn read(file: &File) -> io::Result<String> {
    let mut buffer = [0; READ_MAX];
    let length = file.read_at(&mut buffer, 0)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// The load by `/proc/loadavg`: the average of one minute, or the number of threads that run or are
/// runnable right now, if that is more.
///
/// The average is slow: while it rises, far too many jobs would start. The number at one moment does
/// not include threads that wait for a disk, which the average does.
fn parse_load(text: &str) -> Option<f64> {
    let mut fields = text.split_ascii_whitespace();
    let average: f64 = fields.next()?.parse().ok()?;
    let (running, _) = fields.nth(2)?.split_once('/')?;
    // The thread that reads the file is one of them.
    let running = running.parse::<u32>().ok()?.saturating_sub(1);
    Some(average.max(f64::from(running)))
}

/// `MemAvailable` of `/proc/meminfo`, in bytes (Linux 3.14).
fn parse_available(text: &str) -> Option<u64> {
    let mut values = text
        .lines()
        .filter_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = values.next()?.trim().strip_suffix("kB")?.trim();
    kilobytes.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        write(&mut file, text);
        file
    }

    fn write(file: &mut File, text: &str) {
        file.set_len(0).expect("it is truncated");
        file.write_all_at(text.as_bytes(), 0)
            .expect("it is written");
        file.flush().expect("it is written");
    }

    #[test]
    fn the_load_is_the_average_or_what_runs_now() {
        assert_eq!(parse_load("9.10 7.34 20.50 3/220 14972\n"), Some(9.1));
        assert_eq!(parse_load("0.10 7.34 20.50 13/220 14972\n"), Some(12.0));
        assert_eq!(parse_load("0.00 0.00 0.00 0/1 1\n"), Some(0.0));
        for text in ["", "x", "1.0 1.0", "1.0 1.0 1.0 5 6"] {
            assert_eq!(parse_load(text), None, "{text}");
        }
    }

    #[test]
    fn available_memory_is_read_in_bytes() {
        let text = "MemTotal:  8000 kB\nMemFree:  10 kB\nMemAvailable:    2048 kB\nBuffers: 1 kB\n";
        assert_eq!(parse_available(text), Some(2 << 20));
        for text in [
            "",
            "MemFree: 1 kB\n",
            "MemAvailable: x kB\n",
            "MemAvailable: 5",
        ] {
            assert_eq!(parse_available(text), None, "{text}");
        }
    }

    #[test]
    fn a_condition_holds_starts_until_it_clears() {
        let load = file("9.10 1.0 1.0 1/2 3");
        let writer = load.try_clone().expect("a descriptor");
        let mut conditions = Conditions {
            load: Some((load, 8.0)),
            ..Conditions::default()
        };
        let now = Instant::now();
        let hold = conditions.hold(now).expect("the load is too high");
        assert_eq!(hold.reason, "load 9.1 >= 8");
        assert!(hold.pause >= Duration::from_millis(100), "no busy loop");
        writer.write_all_at(b"7.90", 0).expect("it is written");
        assert_eq!(conditions.hold(now), None);
        // A file that cannot be understood any more holds nothing up.
        writer.set_len(0).expect("it is truncated");
        assert_eq!(conditions.hold(now), None);
    }

    #[test]
    fn memory_is_short_below_half_of_the_limit() {
        let with = |kilobytes: u64| Conditions {
            memory: Some((file(&format!("MemAvailable: {kilobytes} kB\n")), 1 << 20)),
            ..Conditions::default()
        };
        let now = Instant::now();
        assert_eq!(with(1024).hold(now), None);
        let hold = with(1023).hold(now).expect("too little");
        assert_eq!(hold.reason, "free memory 1023.0 KiB < 1.0 MiB");
        assert_eq!(with(512).memory_shortage(), None);
        assert_eq!(with(511).memory_shortage(), Some(511 << 10));
        assert_eq!(Conditions::default().memory_shortage(), None);
    }
}
