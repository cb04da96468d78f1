//! The capture scenario: children that write 4 KiB to a pipe, a fixed number at the same time.
//!
//! A cycle is start, read to the end, exit, reap. The contestant has the exit when it has the status
//! and the whole output.

use anyhow::Result;

use super::bench::Bench;
use super::closed_loop::ClosedLoop;
use crate::measure::program::Program;
use crate::types::options::CaptureOptions;
use crate::types::run::Run;
use crate::types::run_spec::RunSpec;

pub(super) fn measure(spec: &RunSpec, options: &CaptureOptions) -> Result<Run> {
    let load = ClosedLoop {
        first: 0,
        concurrency: options.concurrency,
        duration: options.duration,
    };
    let program = Program::that_writes()?;
    let mut bench = Bench::new(spec, load.recorder()?, &[])?;
    bench.note_program(&program);
    load.measure(bench, |bench, index| bench.capture(index, &program))
}
