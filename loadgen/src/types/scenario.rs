//! The scenarios by name.

use anyhow::Result;
use clap::Subcommand;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::byte_size::ByteSize;
use super::metric::Metric;
use super::options::{
    AbandonOptions, CaptureOptions, ChurnOptions, RegisterOptions, ServeOptions, SoakOptions,
    SpawnOptions, SteadyOptions, StormOptions,
};

#[derive(Clone, Debug, PartialEq, Subcommand, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// Measure a storm: all children exit at the same time
    Storm(StormOptions),
    /// Measure exits at planned times (open loop) while other children stay alive
    Steady(SteadyOptions),
    /// Measure the whole cycle of short-lived children: fork or execute, watch, exit, callback, reap
    Churn(ChurnOptions),
    /// Measure short-lived children that write 4 KiB to a pipe, which the contestant reads
    Capture(CaptureOptions),
    /// Measure the duration of registrations while callbacks are slow
    Register(RegisterOptions),
    /// Measure unrelated exits while hundreds of thousands of watches are dropped (exitring only)
    Abandon(AbandonOptions),
    /// Measure the cost of spawning `true` with many live children, and with none
    Spawn(SpawnOptions),
    /// Check every exit in a long random mix of kills, stops, cancels, panics, foreign reaps, and
    /// commands with all attributes (exitring only)
    Soak(SoakOptions),
    /// Measure a storm that exitring serve reports to many clients, and compare it with callbacks
    /// of the library
    Serve(ServeOptions),
}

impl Scenario {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Storm(_) => "storm",
            Self::Steady(_) => "steady",
            Self::Churn(options) if options.exec => "churn-exec",
            Self::Churn(_) => "churn",
            Self::Capture(_) => "capture",
            Self::Register(_) => "register",
            Self::Abandon(_) => "abandon",
            Self::Spawn(_) => "spawn",
            Self::Soak(_) => "soak",
            Self::Serve(_) => "serve",
        }
    }

    /// The metric by which contestants are compared first.
    pub(crate) fn headline(&self) -> Metric {
        match self {
            Self::Storm(_) => Metric::Drain,
            Self::Steady(_) => Metric::P50,
            Self::Churn(_) | Self::Capture(_) => Metric::Rate,
            Self::Register(_) => Metric::WatchP99,
            Self::Abandon(_) => Metric::Max,
            Self::Spawn(options) if options.resident.is_some() => Metric::SpawnCall,
            Self::Spawn(_) => Metric::SpawnCost,
            Self::Soak(_) => Metric::Rate,
            Self::Serve(_) => Metric::P99,
        }
    }

    /// Whether its children execute a program that was not made for measurements.
    pub(crate) fn executes_programs(&self) -> bool {
        match self {
            Self::Churn(options) => options.exec,
            Self::Capture(_) | Self::Spawn(_) => true,
            _ => false,
        }
    }

    /// The highest number of children that are alive at the same time.
    pub(crate) fn children(&self) -> u64 {
        match self {
            Self::Storm(options) => options.children.into(),
            Self::Steady(options) => options.exits() + u64::from(options.live),
            Self::Churn(options) => u64::from(options.concurrency) + u64::from(options.live),
            Self::Capture(options) => options.concurrency.into(),
            Self::Register(options) => options.exits() + options.registrations(),
            Self::Abandon(options) => options.children(),
            Self::Spawn(options) => u64::from(options.live) + 1,
            Self::Soak(options) => options.concurrency.into(),
            Self::Serve(options) => options.children(),
        }
    }

    /// Checks the options. The result does not depend on the machine.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Steady(options) => options.check(),
            Self::Churn(options) => options.check(),
            Self::Capture(options) => options.check(),
            Self::Register(options) => options.check(),
            Self::Serve(options) => options.check(),
            _ => Ok(()),
        }
    }

    /// The memory that the measuring process is to have, if the scenario has the option.
    pub(crate) fn resident(&self) -> Option<ByteSize> {
        match self {
            Self::Spawn(options) => options.resident,
            _ => None,
        }
    }

    /// The number of children that stay alive during the measurement, if the scenario has the
    /// option.
    pub(crate) fn live(&self) -> Option<u32> {
        match self {
            Self::Steady(options) => Some(options.live),
            Self::Churn(options) => Some(options.live),
            Self::Spawn(options) => Some(options.live),
            _ => None,
        }
    }
}
