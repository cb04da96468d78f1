//! The first message of a run: what the list is, and how jobs run.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::text::Text;
use crate::queue::error::QueueError;

/// The version of the formats. A higher one is refused.
pub(crate) const FORMAT: u32 = 1;

/// The seconds of a lease. `submit` accepts 500 ms at least.
const LEASE: RangeInclusive<f64> = 0.1..=86_400.0;

/// What the list is, and how jobs run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunSpec {
    pub(crate) format: u32,
    /// Which run of this name it is: random digits, which are part of its subjects and of the name of
    /// its consumer. Nothing that belongs to a deleted run reaches a later one with the same name.
    pub(crate) id: String,
    /// The server to which it was submitted, if that is not in a cluster. A server has another id after
    /// each start, so one with this id has forgotten nothing about the jobs.
    #[serde(default)]
    pub(crate) server: Option<String>,
    /// The number of jobs.
    pub(crate) jobs: u64,
    /// The hash of all jobs: XXH3 of their messages.
    pub(crate) list: String,
    pub(crate) options: RunOptions,
}

/// How jobs run, on every worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct RunOptions {
    pub(crate) timeout_seconds: Option<f64>,
    pub(crate) grace_seconds: f64,
    pub(crate) retries: u32,
    /// As `--retry-delay` takes it.
    pub(crate) retry_delay: Option<String>,
    pub(crate) fail_flaky: bool,
    pub(crate) cwd: Option<Text>,
    /// NAME=VALUE.
    pub(crate) env: Vec<Text>,
    pub(crate) shell: ShellChoice,
    pub(crate) lease_seconds: f64,
    pub(crate) max_lost: u32,
}

/// What executes a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(Default))]
pub(crate) enum ShellChoice {
    /// `sh`, for the lines that need a shell.
    #[cfg_attr(test, default)]
    Auto,
    Never,
    Always(Text),
}

impl RunSpec {
    /// Checks that this version understands it.
    pub(crate) fn parse(run: &str, json: &[u8]) -> Result<Self, QueueError> {
        let invalid = |reason: String| QueueError::InvalidMessage {
            run: run.into(),
            reason,
        };
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let format: Format =
            serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
        if format.format > FORMAT {
            return Err(QueueError::NewerFormat {
                run: run.into(),
                version: format.format,
            });
        }
        let spec: Self =
            serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if spec.id.len() != 16 || !spec.id.bytes().all(is_digit) {
            return Err(invalid(
                "the id of the run is not 16 hexadecimal digits".into(),
            ));
        }
        let options = &spec.options;
        let times = [
            options.timeout_seconds,
            Some(options.grace_seconds),
            Some(options.lease_seconds),
        ];
        let is_time = |seconds: f64| Duration::try_from_secs_f64(seconds).is_ok();
        if !times.into_iter().flatten().all(is_time) {
            return Err(invalid("a time is out of range".into()));
        }
        if !LEASE.contains(&options.lease_seconds) {
            return Err(invalid("the lease is out of range".into()));
        }
        // What cannot be decoded would be left out, and the jobs would run elsewhere or otherwise.
        let is_text = |text: &Text| {
            let bytes = text.clone().into_bytes();
            bytes.is_some_and(|bytes| !bytes.contains(&0))
        };
        let is_variable = |text: &Text| {
            let bytes = text.clone().into_bytes().unwrap_or_default();
            bytes.iter().position(|&byte| byte == b'=') > Some(0)
        };
        let shell = match &options.shell {
            ShellChoice::Always(shell) => Some(shell),
            ShellChoice::Auto | ShellChoice::Never => None,
        };
        let mut texts = options.cwd.iter().chain(shell).chain(&options.env);
        if !texts.all(is_text) || !options.env.iter().all(is_variable) {
            return Err(invalid(
                "a variable, the directory or the shell is not a valid text".into(),
            ));
        }
        Ok(spec)
    }

    /// The time after which a job whose lease was not renewed is delivered again.
    pub(crate) fn lease(&self) -> Duration {
        self.options.lease()
    }
}

impl RunOptions {
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout_seconds.map(seconds)
    }

    pub(crate) fn grace(&self) -> Duration {
        seconds(self.grace_seconds)
    }

    fn lease(&self) -> Duration {
        seconds(self.lease_seconds)
    }

    pub(crate) fn cwd(&self) -> Option<PathBuf> {
        self.cwd.clone()?.into_os().map(PathBuf::from)
    }

    pub(crate) fn env(&self) -> Vec<OsString> {
        let variables = self.env.iter().cloned();
        variables.filter_map(Text::into_os).collect()
    }

    /// The names of the options that differ. Times are compared in nanoseconds: a number may be read
    /// from JSON with another last digit.
    pub(crate) fn differences(&self, other: &Self) -> String {
        let pairs = [
            ("--timeout", self.timeout() == other.timeout()),
            ("--grace", self.grace() == other.grace()),
            ("--retries", self.retries == other.retries),
            ("--retry-delay", self.retry_delay == other.retry_delay),
            ("--fail-flaky", self.fail_flaky == other.fail_flaky),
            ("--cwd", self.cwd == other.cwd),
            ("--env", self.env == other.env),
            ("--shell", self.shell == other.shell),
            ("--lease", self.lease() == other.lease()),
            ("--max-lost", self.max_lost == other.max_lost),
        ];
        let differing = pairs
            .iter()
            .filter(|(_, same)| !same)
            .map(|(name, _)| *name);
        differing.collect::<Vec<_>>().join(", ")
    }
}

/// Random hexadecimal digits, for the id of a run and the name of a worker.
pub(crate) fn random_id() -> String {
    let mut bytes = [0; 8];
    // It fails only for addresses outside of the process and unknown flags.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    format!("{:016x}", u64::from_ne_bytes(bytes))
}

/// The value of a variable that is set here, for `--env NAME`.
pub(crate) fn variable_with_value(variable: &OsString) -> Option<Text> {
    if variable.as_bytes().contains(&b'=') {
        return Some(Text::of_os(variable));
    }
    let mut whole = variable.clone().into_vec();
    whole.push(b'=');
    whole.extend(std::env::var_os(variable)?.into_vec());
    Some(Text::of(&whole))
}

/// [`RunSpec::parse`] has checked the range.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(change: impl FnOnce(&mut Value)) -> Result<RunSpec, QueueError> {
        let mut spec = json!({
            "format": 1, "id": "0123456789abcdef", "jobs": 1, "list": "0",
            "options": {
                "timeout_seconds": null, "grace_seconds": 1e18, "retries": 0, "retry_delay": null,
                "fail_flaky": false, "cwd": "/", "env": ["A=b"], "shell": "auto",
                "lease_seconds": 30.0, "max_lost": 3,
            },
        });
        change(&mut spec);
        RunSpec::parse("r", spec.to_string().as_bytes())
    }

    #[test]
    fn values_that_no_worker_could_use_are_refused() {
        assert!(parse(|_| {}).is_ok());
        for (field, value) in [
            ("lease_seconds", json!(0.0)),
            ("lease_seconds", json!(-1.0)),
            ("lease_seconds", json!(1e18)),
            ("grace_seconds", json!(1e300)),
            ("env", json!(["A=\u{0}"])),
            ("env", json!(["A"])),
            ("env", json!(["=a"])),
            ("env", json!([{ "base64": "%" }])),
            ("cwd", json!({ "base64": "%" })),
            ("shell", json!({ "always": "\u{0}" })),
        ] {
            let changed = parse(|spec| spec["options"][field] = value.clone());
            assert!(changed.is_err(), "{field} {value}");
        }
        for id in ["", "0123456789abcdeF", "0123456789abcde.", "*"] {
            assert!(parse(|spec| spec["id"] = id.into()).is_err(), "{id}");
        }
    }

    #[test]
    fn a_time_is_the_same_with_another_last_digit() {
        let options = |timeout: f64| RunOptions {
            timeout_seconds: Some(timeout),
            lease_seconds: timeout,
            ..RunOptions::default()
        };
        for milliseconds in 1..40_000 {
            let time = Duration::from_millis(milliseconds).as_secs_f64();
            for read in [time.next_up(), time.next_down()] {
                assert_eq!(options(time).differences(&options(read)), "");
            }
        }
        let differing = options(1.118).differences(&options(1.119));
        assert_eq!(differing, "--timeout, --lease");
    }
}
