//! The churn scenario: the whole cycle of short-lived children, a fixed number at the same time.
//!
//! A cycle is start, watch, exit, callback, reap. A child is a fork without exec, whose every page
//! that parent or child write is copied, or with `--exec` an execution of a program.

use anyhow::Result;

use super::bench::Bench;
use super::closed_loop::ClosedLoop;
use crate::measure::program::Program;
use crate::measure::shared_table::Gate;
use crate::types::options::ChurnOptions;
use crate::types::run::Run;
use crate::types::run_spec::RunSpec;

pub(super) fn measure(spec: &RunSpec, options: &ChurnOptions) -> Result<Run> {
    let live = options.live as usize;
    let load = ClosedLoop {
        first: live,
        concurrency: options.concurrency,
        duration: options.duration,
    };
    let groups = [(0..live, Gate::Live)];
    if !options.exec {
        let bench = Bench::new(spec, load.recorder()?, &groups)?;
        return load.measure(bench, |bench, index| bench.spawn(index, Gate::None));
    }
    let program = Program::that_exits(options.program.as_deref())?;
    let mut bench = Bench::new(spec, load.recorder()?, &groups)?;
    bench.note_program(&program);
    load.measure(bench, |bench, index| bench.spawn_program(index, &program))
}
