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
        64 + self.kind.descriptors_per_child() * self.scenario.children()
    }

    /// The number of processes and threads that the run needs.
    pub(crate) fn tasks(&self) -> u64 {
        self.kind.tasks_per_child() * self.scenario.children()
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
