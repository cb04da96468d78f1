//! Checks that make a warning of what may spoil a result.

use rustix::process::{Resource, getrlimit};

use crate::types::run::Run;
use crate::types::warning::{MIN_REPETITIONS, Warning};

/// The part of the planned rate below which a run gets a warning.
const MIN_RATE: f64 = 0.99;
/// The part of the limit on descriptors above which a run gets a warning.
const MAX_DESCRIPTORS: f64 = 0.9;

/// Checks the machine before anything is measured.
pub(super) fn about_machine(cores: usize) -> Option<Warning> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = text.split_whitespace().next()?.parse().ok()?;
    (load > cores as f64).then_some(Warning::LoadAboveCores { load, cores })
}

pub(super) fn about_repetitions(repeat: u32) -> Option<Warning> {
    (repeat < MIN_REPETITIONS).then_some(Warning::FewRepetitions { repeat })
}

/// Checks a run, in the process that made it. Adds to the warnings of the scenario.
pub(super) fn about_run(run: &Run) -> Vec<Warning> {
    let mut warnings = run.warnings.clone();
    if let Some(rate) = &run.rate
        && rate.achieved_per_s < MIN_RATE * rate.planned_per_s
    {
        warnings.push(Warning::RateBelowPlan {
            planned_per_s: rate.planned_per_s,
            achieved_per_s: rate.achieved_per_s,
        });
    }
    let held = run.fds_held;
    if let Some(limit) = getrlimit(Resource::Nofile).current
        && held as f64 > MAX_DESCRIPTORS * limit as f64
    {
        warnings.push(Warning::DescriptorsNearLimit { held, limit });
    }
    if let Some(stalls) = run.stalls.filter(|&stalls| stalls > 0) {
        warnings.push(Warning::QueueStalls { stalls });
    }
    warnings
}
