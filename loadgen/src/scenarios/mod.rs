//! The scenarios, one file each.
//!
//! A scenario makes one run: it creates children, lets them exit, and measures one contestant
//! that watches them. `bench` is the part that the scenarios share; only `soak` does without it.
//! `closed_loop` is the load of `churn` and `capture`.
//! Each run has a process of its own, in which `rounds` calls [`measure`]. Scenarios call
//! `contestants` and `measure`, and not each other.

mod abandon;
mod bench;
mod capture;
mod churn;
mod closed_loop;
mod register;
mod serve;
mod soak;
mod spawn;
mod steady;
mod storm;

use anyhow::Result;

use crate::types::run::Run;
use crate::types::run_spec::RunSpec;
use crate::types::scenario::Scenario;

/// Makes a run in this process.
pub(crate) fn measure(spec: &RunSpec) -> Result<Run> {
    match &spec.scenario {
        Scenario::Storm(options) => storm::measure(spec, options),
        Scenario::Steady(options) => steady::measure(spec, options),
        Scenario::Churn(options) => churn::measure(spec, options),
        Scenario::Capture(options) => capture::measure(spec, options),
        Scenario::Register(options) => register::measure(spec, options),
        Scenario::Abandon(options) => abandon::measure(spec, options),
        Scenario::Spawn(options) => spawn::measure(spec, options),
        Scenario::Soak(options) => soak::measure(spec, options),
        Scenario::Serve(options) => serve::measure(spec, options),
    }
}
