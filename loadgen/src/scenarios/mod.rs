//! What is measured, one file each. A scenario is made in a process of its own, by one contestant.

mod abandon;
mod bench;
mod churn;
mod register;
mod serve;
mod soak;
mod spawn;
mod steady;
mod storm;

use anyhow::Result;
use clap::Subcommand;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::steady::SteadyOptions;
use crate::contestants::Kind;
use crate::metric::Metric;
use crate::run::Run;

#[derive(Clone, Debug, PartialEq, Subcommand, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// Fork children, park them, release all at once, and follow every exit
    Storm(storm::StormOptions),
    /// Exits at planned moments, whether or not the watcher keeps up, while many others live (open loop)
    Steady(steady::SteadyOptions),
    /// Start children that exit at once, again and again: fork, watch, exit, callback, reap
    Churn(churn::ChurnOptions),
    /// How long a registration takes while callbacks are slow
    Register(register::RegisterOptions),
    /// How long unrelated exits take while hundreds of thousands of watches are given up (exitring only)
    Abandon(abandon::AbandonOptions),
    /// What spawning `true` costs while many children are alive, against none
    Spawn(spawn::SpawnOptions),
    /// A long random mix of kills, stops, cancels, panics and thefts: every exit exactly once (exitring only)
    Soak(soak::SoakOptions),
    /// A storm that exitring serve tells many clients of, durably, against the library's own callbacks
    Serve(serve::ServeOptions),
}

/// One run to be made: all that the process that makes it has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) kind: Kind,
    pub(crate) workers: usize,
    pub(crate) round: u32,
    pub(crate) scenario: Scenario,
}

impl Scenario {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Storm(_) => "storm",
            Self::Steady(_) => "steady",
            Self::Churn(_) => "churn",
            Self::Register(_) => "register",
            Self::Abandon(_) => "abandon",
            Self::Spawn(_) => "spawn",
            Self::Soak(_) => "soak",
            Self::Serve(_) => "serve",
        }
    }

    /// What the contestants are compared by first.
    pub(crate) fn headline(&self) -> Metric {
        match self {
            Self::Storm(_) => Metric::Drain,
            Self::Steady(_) => Metric::P50,
            Self::Churn(_) => Metric::Rate,
            Self::Register(_) => Metric::WatchP99,
            Self::Abandon(_) => Metric::Max,
            Self::Spawn(_) => Metric::SpawnCost,
            Self::Soak(_) => Metric::Rate,
            Self::Serve(_) => Metric::P99,
        }
    }

    /// How many children are alive at most.
    pub(crate) fn children(&self) -> u64 {
        match self {
            Self::Storm(options) => options.children.into(),
            Self::Steady(options) => options.exits() + u64::from(options.live),
            Self::Churn(options) => u64::from(options.concurrency) + u64::from(options.live),
            Self::Register(options) => options.exits() + options.registrations(),
            Self::Abandon(options) => options.children(),
            Self::Spawn(options) => u64::from(options.live) + 1,
            Self::Soak(options) => options.concurrency(),
            Self::Serve(options) => options.children(),
        }
    }

    /// What is wrong with it, on any machine.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Steady(options) => options.check(),
            Self::Churn(options) => options.check(),
            Self::Register(options) => options.check(),
            Self::Serve(options) => options.check(),
            _ => Ok(()),
        }
    }

    /// How many children live on while it is measured, if that is asked for.
    pub(crate) fn live(&self) -> Option<u32> {
        match self {
            Self::Steady(options) => Some(options.live),
            Self::Churn(options) => Some(options.live),
            Self::Spawn(options) => Some(options.live),
            _ => None,
        }
    }
}

impl Order {
    /// Makes the run, in this process.
    pub(crate) fn measure(&self) -> Result<Run> {
        match &self.scenario {
            Scenario::Storm(options) => storm::measure(self, options),
            Scenario::Steady(options) => steady::measure(self, options),
            Scenario::Churn(options) => churn::measure(self, options),
            Scenario::Register(options) => register::measure(self, options),
            Scenario::Abandon(options) => abandon::measure(self, options),
            Scenario::Spawn(options) => spawn::measure(self, options),
            Scenario::Soak(options) => soak::measure(self, options),
            Scenario::Serve(options) => serve::measure(self, options),
        }
    }

    /// How many descriptors it takes, with some to spare.
    pub(crate) fn descriptors(&self) -> u64 {
        64 + self.kind.descriptors_per_child() * self.scenario.children()
    }

    /// How many processes and threads it takes.
    pub(crate) fn tasks(&self) -> u64 {
        self.kind.tasks_per_child() * self.scenario.children()
    }

    /// A run of which nothing is known yet.
    pub(crate) fn run(&self) -> Run {
        Run {
            contestant: self.kind,
            title: self.kind.title(self.workers),
            round: self.round,
            live: self.scenario.live(),
            ..Run::default()
        }
    }
}
