//! The storm: all children exit at once.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Order;
use super::bench::Bench;
use crate::board::Gate;
use crate::run::Run;
use crate::tally::Tally;

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct StormOptions {
    /// How many children exit at once
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) children: u32,
}

pub(super) fn measure(order: &Order, options: &StormOptions) -> Result<Run> {
    let all = 0..options.children as usize;
    let tally = Tally::new(all.len(), Duration::ZERO)?;
    let mut bench = Bench::new(order, tally, &[(all.clone(), Gate::Exits)])?;
    bench.start()?;
    bench.release(Gate::Exits);
    bench.wait_for(all.len() as u64);
    bench.stop(&all)?;
    bench.finish(all.len() as u64, all.len())
}
