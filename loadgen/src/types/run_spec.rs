//! The specification of one run.

use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::run::Run;
use super::scenario::Scenario;

/// One run to make. The process that makes the run gets it as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunSpec {
    pub(crate) kind: Kind,
    pub(crate) workers: usize,
    pub(crate) round: u32,
    pub(crate) scenario: Scenario,
}

impl RunSpec {
    /// The number of descriptors that the run needs, with some to spare.
    pub(crate) fn descriptors(&self) -> u64 {
        48 + self.descriptors_per_child() * self.scenario.children()
    }

    /// The number of descriptors that the contestant holds per child: for the watch, and for both
    /// ends of its output.
    pub(crate) fn descriptors_per_child(&self) -> u64 {
        let pipe = match self.scenario {
            Scenario::Capture(_) => 2,
            _ => 0,
        };
        self.kind.descriptors_per_child() + pipe
    }

    /// The number of threads that a contestant has whose threads block for one child each.
    ///
    /// The tiny program of `churn --exec` ends before its parent can start another child on the same
    /// core, so more threads than cores only compete. Other children need one thread each.
    pub(crate) fn blocking_threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match &self.scenario {
            Scenario::Churn(options) if options.program.is_none() => {
                cores.min(options.concurrency as usize)
            }
            Scenario::Churn(options) => options.concurrency as usize,
            Scenario::Capture(options) => options.concurrency as usize,
            _ => 1,
        }
    }

    /// The number of processes and threads that the run needs.
    pub(crate) fn tasks(&self) -> u64 {
        self.kind.tasks_per_child() * self.scenario.children() + self.blocking_threads() as u64
    }

    /// A result without any measurement.
    pub(crate) fn empty_run(&self) -> Run {
        Run {
            contestant: self.kind,
            title: self.kind.title(self.workers),
            round: self.round,
            live: self.scenario.live(),
            resident_bytes: self.scenario.resident(),
            ..Run::default()
        }
    }
}
