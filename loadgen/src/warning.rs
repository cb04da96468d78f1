//! Why a measurement is to be taken with care.

use std::fmt;

use rustix::process::{Resource, getrlimit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run::Run;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "warning", rename_all = "kebab-case")]
pub(crate) enum Warning {
    /// Exits did not come as fast as planned: the machine, not the watcher, was the limit.
    RateBelowPlan {
        planned_per_s: f64,
        achieved_per_s: f64,
    },
    /// Others wanted the processors when it began.
    LoadAboveCores {
        load: f64,
        cores: usize,
    },
    DescriptorsNearLimit {
        held: u64,
        limit: u64,
    },
    /// Exits found exitring's queue full.
    QueueStalls {
        stalls: u64,
    },
    FewRepetitions {
        repeat: u32,
    },
}

/// Less of the plan than this is worth a word.
const RATE_KEPT: f64 = 0.99;
/// More of the limit than this, too.
const DESCRIPTORS_USED: f64 = 0.9;
const REPETITIONS: u32 = 3;

impl Warning {
    /// Before anything is measured.
    pub(crate) fn about_the_machine(cores: usize) -> Option<Self> {
        let text = std::fs::read_to_string("/proc/loadavg").ok()?;
        let load: f64 = text.split_whitespace().next()?.parse().ok()?;
        (load > cores as f64).then_some(Self::LoadAboveCores { load, cores })
    }

    pub(crate) fn about_repetitions(repeat: u32) -> Option<Self> {
        (repeat < REPETITIONS).then_some(Self::FewRepetitions { repeat })
    }

    /// In the process that made the run.
    pub(crate) fn about(run: &Run) -> Vec<Self> {
        let mut warnings = Vec::new();
        if let Some(rate) = &run.rate
            && rate.achieved_per_s < RATE_KEPT * rate.planned_per_s
        {
            warnings.push(Self::RateBelowPlan {
                planned_per_s: rate.planned_per_s,
                achieved_per_s: rate.achieved_per_s,
            });
        }
        let held = run.fds_held;
        if let Some(limit) = getrlimit(Resource::Nofile).current
            && held as f64 > DESCRIPTORS_USED * limit as f64
        {
            warnings.push(Self::DescriptorsNearLimit { held, limit });
        }
        if let Some(stalls) = run.stalls.filter(|&stalls| stalls > 0) {
            warnings.push(Self::QueueStalls { stalls });
        }
        warnings
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RateBelowPlan {
                planned_per_s,
                achieved_per_s,
            } => write!(
                f,
                "{achieved_per_s:.0} exits a second of {planned_per_s:.0} planned: the machine did not keep up with the load"
            ),
            Self::LoadAboveCores { load, cores } => write!(
                f,
                "the load of the machine was {load:.1} on {cores} cores before it began: let it come to rest"
            ),
            Self::DescriptorsNearLimit { held, limit } => {
                write!(f, "{held} descriptors held of {limit} allowed (ulimit -n)")
            }
            Self::QueueStalls { stalls } => write!(
                f,
                "{stalls} exits found the queue full and waited: callbacks were slower than exits"
            ),
            Self::FewRepetitions { repeat } => write!(
                f,
                "{repeat} of at least {REPETITIONS} repetitions: the spread is not known (--repeat)"
            ),
        }
    }
}
