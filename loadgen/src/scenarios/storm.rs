//! The storm scenario: all children exit at the same time.

use std::time::Duration;

use anyhow::Result;

use super::bench::Bench;
use crate::measure::recorder::Recorder;
use crate::measure::shared_table::Gate;
use crate::types::options::StormOptions;
use crate::types::run::Run;
use crate::types::run_spec::RunSpec;

pub(super) fn measure(spec: &RunSpec, options: &StormOptions) -> Result<Run> {
    let all = 0..options.children as usize;
    let recorder = Recorder::new(all.len(), Duration::ZERO)?;
    let mut bench = Bench::new(spec, recorder, &[(all.clone(), Gate::Exits)])?;
    bench.start()?;
    bench.release(Gate::Exits);
    bench.wait_for(all.len() as u64);
    bench.stop(&all)?;
    bench.finish(all.len() as u64, all.len())
}
