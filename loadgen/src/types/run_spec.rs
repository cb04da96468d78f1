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
        64 + self.descriptors_per_child() * self.scenario.children()
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
    pub(crate) fn blocking_threads(&self) -> usize {
        match &self.scenario {
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
            ..Run::default()
        }
    }
}
