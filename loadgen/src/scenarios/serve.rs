//! The serve scenario: a storm of processes that `exitring serve` watches for many clients.
//!
//! The latency is from the child's last instruction to the time when the client knows the status.
//! It is compared with callbacks of the library in the same rounds.

use std::time::Duration;

use anyhow::Result;

use super::bench::Bench;
use crate::measure::recorder::Recorder;
use crate::measure::shared_table::Gate;
use crate::types::options::ServeOptions;
use crate::types::run::Run;
use crate::types::run_spec::RunSpec;

pub(super) fn measure(spec: &RunSpec, options: &ServeOptions) -> Result<Run> {
    let all = 0..options.children() as usize;
    let recorder = Recorder::new(all.len(), Duration::ZERO)?;
    let mut bench = Bench::new(spec, recorder, &[(all.clone(), Gate::Exits)])?;
    bench.start()?;
    bench.release(Gate::Exits);
    bench.wait_for(all.len() as u64);
    bench.stop(&all)?;
    bench.finish(all.len() as u64, all.len())
}
