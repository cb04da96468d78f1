//! The options of each scenario.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::byte_size::ByteSize;

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct StormOptions {
    /// Number of children
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) children: u32,
}

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SteadyOptions {
    /// Number of children that stay alive, in addition to those that exit
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) live: u32,
    /// Exits per second
    #[arg(long, value_name = "R", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// Duration of the load, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub(crate) duration: f64,
    /// Distribution of the planned times
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    pub(crate) arrivals: Arrivals,
    /// Seed of the random times; all contestants get the same times
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Arrivals {
    /// Independent events: exponentially distributed intervals
    Poisson,
    /// Equal intervals
    Fixed,
}

impl SteadyOptions {
    pub(crate) fn exits(&self) -> u64 {
        (f64::from(self.rate) * self.duration) as u64
    }

    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.duration.is_finite() && self.duration <= 86_400.0,
            "--duration {} is not a number of seconds up to one day",
            self.duration
        );
        ensure!(
            self.exits() > 0,
            "--rate {} for --duration {} gives no exit at all; increase one of them",
            self.rate,
            self.duration
        );
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ChurnOptions {
    /// Number of children that run at the same time
    #[arg(long, value_name = "C", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: u32,
    /// Duration of the load, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub(crate) duration: f64,
    /// Number of other children that stay alive meanwhile
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) live: u32,
    /// Execute a program in each child, started as users of the contestant start one: a static
    /// program of about 200 bytes that only exits (x86_64 and aarch64), or `true`
    #[arg(long)]
    #[serde(default)]
    pub(crate) exec: bool,
    /// Program to execute instead; it gets no arguments, and must exit with 0 within 10 seconds
    #[arg(long, value_name = "PATH", requires = "exec")]
    #[serde(default)]
    pub(crate) program: Option<PathBuf>,
}

impl ChurnOptions {
    pub(super) fn check(&self) -> Result<()> {
        check_hour(self.duration)
    }
}

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CaptureOptions {
    /// Number of children that run at the same time
    #[arg(long, value_name = "C", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) concurrency: u32,
    /// Duration of the load, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub(crate) duration: f64,
}

impl CaptureOptions {
    pub(super) fn check(&self) -> Result<()> {
        check_hour(self.duration)
    }
}

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RegisterOptions {
    /// Time that each callback sleeps, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) callback_sleep: u32,
    /// Registrations per second
    #[arg(long, value_name = "R", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// Duration of the load, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0)]
    pub(crate) duration: f64,
}

impl RegisterOptions {
    pub(crate) fn sleep(&self) -> Duration {
        Duration::from_millis(self.callback_sleep.into())
    }

    /// The number of exits that keeps one thread in callbacks all the time.
    pub(crate) fn exits(&self) -> u64 {
        (self.duration / self.sleep().as_secs_f64()) as u64
    }

    pub(crate) fn registrations(&self) -> u64 {
        (f64::from(self.rate) * self.duration) as u64
    }

    pub(super) fn check(&self) -> Result<()> {
        check_hour(self.duration)?;
        ensure!(
            self.registrations() > 0 && self.exits() > 0,
            "--duration {} is too short for a registration and a callback of --callback-sleep {} ms",
            self.duration,
            self.callback_sleep
        );
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct AbandonOptions {
    /// Number of watches that are dropped, one after the other
    #[arg(long, value_name = "N", default_value_t = 400_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) watches: u32,
    /// Number of unrelated exits, one every 5 ms from the first dropped watch on
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) exits: u32,
}

impl AbandonOptions {
    pub(super) fn children(&self) -> u64 {
        u64::from(self.exits) + 1
    }
}

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SpawnOptions {
    /// Number of children that are alive meanwhile
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub(crate) live: u32,
    /// Number of timed spawns in each half of a turn
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) spawns: u32,
    /// Number of turns; each has a half without and a half with live children
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) turns: u32,
    /// Resident memory of the measuring process, as in 10MB or 10GiB, in pages of the smallest size
    /// [default: none]
    ///
    /// A fork copies the page tables of this memory, and a spawn without a fork does not. The
    /// contestants are then compared by the duration of the call of spawn first. The children that
    /// are alive meanwhile do not get the memory.
    #[arg(long, value_name = "SIZE")]
    #[serde(default)]
    pub(crate) resident: Option<ByteSize>,
}

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SoakOptions {
    /// Number of children in all, without commands that are not started
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) exits: u64,
    /// Number of children at the same time
    #[arg(long, value_name = "C", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) concurrency: u32,
    /// Seed of the random choices
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ServeOptions {
    /// Number of clients; each has a connection and a thread
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=400))]
    pub(crate) clients: u32,
    /// Number of watched processes per client
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) watches: u32,
    /// Directory in which the state directory of the service is created, and removed at the end
    /// [default: the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

impl ServeOptions {
    pub(crate) fn children(&self) -> u64 {
        u64::from(self.clients) * u64::from(self.watches)
    }

    pub(super) fn check(&self) -> Result<()> {
        if let Some(dir) = &self.state {
            ensure!(
                dir.is_dir(),
                "--state {}: not a directory; create it first",
                dir.display()
            );
        }
        Ok(())
    }
}

fn check_hour(duration: f64) -> Result<()> {
    ensure!(
        duration > 0.0 && duration <= 3600.0,
        "--duration {duration} is not a number of seconds above 0 and up to one hour"
    );
    Ok(())
}
