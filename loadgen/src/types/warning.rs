//! Reasons why a result may be unreliable.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::width::Width;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "warning", rename_all = "kebab-case")]
pub(crate) enum Warning {
    /// Exits came slower than planned: the machine was the limit, not the watcher.
    RateBelowPlan {
        planned_per_s: f64,
        achieved_per_s: f64,
    },
    /// Other processes used the CPUs when the measurement started.
    LoadAboveCores {
        load: f64,
        cores: usize,
    },
    DescriptorsNearLimit {
        held: u64,
        limit: u64,
    },
    /// Exits waited because exitring's queue was full.
    QueueStalls {
        stalls: u64,
    },
    /// The children executed no tiny program, because there is none for the architecture.
    NoTinyProgram {
        program: String,
    },
    FewRepetitions {
        repeat: u32,
    },
    /// The interval of the headline's ratio stayed wider than `--until-width`.
    WideInterval {
        title: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        live: Option<u32>,
        /// The full width as a part of the ratio; null if there is no interval.
        width: Option<f64>,
        wanted: f64,
        rounds: u32,
    },
}

/// With fewer repetitions the spread is not known.
pub(crate) const MIN_REPETITIONS: u32 = 3;

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RateBelowPlan {
                planned_per_s,
                achieved_per_s,
            } => write!(
                f,
                "{achieved_per_s:.0} exits per second of {planned_per_s:.0} planned: the machine did not keep up with the load"
            ),
            Self::LoadAboveCores { load, cores } => write!(
                f,
                "the load average of the machine was {load:.1} on {cores} cores at the start: stop other work and measure again"
            ),
            Self::DescriptorsNearLimit { held, limit } => {
                write!(
                    f,
                    "{held} of {limit} allowed descriptors were open: raise the limit (ulimit -n)"
                )
            }
            Self::QueueStalls { stalls } => write!(
                f,
                "{stalls} exits waited for capacity in the queue: callbacks were slower than exits"
            ),
            Self::NoTinyProgram { program } => write!(
                f,
                "children executed {program}, because there is no tiny static program for this \
                 architecture: the start of libc is part of every figure"
            ),
            Self::FewRepetitions { repeat } => write!(
                f,
                "the spread is not known, with {repeat} of at least {MIN_REPETITIONS} repetitions: use --repeat {MIN_REPETITIONS} or more"
            ),
            Self::WideInterval {
                title,
                live,
                width,
                wanted,
                rounds,
            } => {
                let live = live.map_or_else(String::new, |live| format!(", {live} live"));
                let width = width.map_or_else(
                    || "not known".to_owned(),
                    |width| format!("{:.1} % wide", 100.0 * width),
                );
                write!(
                    f,
                    "{title}{live}: the interval of the ratio is {width} after {rounds} rounds, not below {}: use a quieter machine, longer runs or more --max-rounds",
                    Width::from_part(*wanted)
                )
            }
        }
    }
}
