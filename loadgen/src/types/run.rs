//! The result of one run.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::byte_size::ByteSize;
use super::kind::Kind;
use super::latency::{Latencies, Percentiles};
use super::warning::Warning;

/// One run of one contestant in one scenario. Fields that the scenario does not measure are left
/// out.
///
/// A run may come from an older build of the load generator (`--against`), so a new field needs
/// `#[serde(default)]`, or is an `Option`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Run {
    pub(crate) contestant: Kind,
    /// The contestant's name for people, with the relevant settings.
    pub(crate) title: String,
    /// The name of the build that made the run, if it is not the build that saved the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) build: Option<String>,
    /// The number of the repetition, from 1 on.
    pub(crate) round: u32,
    /// Children that stayed alive during the measurement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) live: Option<u32>,
    /// The program that children execute, if they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) program: Option<String>,
    /// Memory of the measuring process whose page tables a fork copies, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resident_bytes: Option<ByteSize>,
    /// Children whose exits are measured.
    pub(crate) children: u64,
    /// Delivered exits of these children.
    pub(crate) exits: u64,
    /// Exits that were never delivered, of all children, with those that stay alive.
    pub(crate) lost: u64,
    /// Deliveries beyond the first.
    pub(crate) duplicates: u64,
    /// Deliveries with the wrong pid or status. The pid of a child that executes a program is checked
    /// if its start returned it.
    pub(crate) wrong: u64,
    /// From the child's last instruction to the time when the contestant knows the status. If
    /// children execute a program: from the call that starts the child.
    pub(crate) latency_ns: Percentiles,
    /// The same from the planned time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_from_plan_ns: Option<Percentiles>,
    /// From the planned time to the child's last instruction: the accuracy of the load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lateness_ns: Option<Percentiles>,
    /// From the opening of the gate to the known status of the last exit.
    #[serde(skip_serializing_if = "is_zero")]
    #[serde(default)]
    pub(crate) drain_ns: u64,
    /// User and system time of the process during the measurement, with reaping; 0: not measured.
    pub(crate) cpu_ns_per_exit: u64,
    /// Voluntary and involuntary context switches of all threads of the process, per exit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) switches_per_exit: Option<f64>,
    /// Open descriptors while all children are watched, without those that were open before the
    /// contestant was made.
    pub(crate) fds_held: u64,
    /// Anonymous memory (heap and stacks) per child while all children are watched, without the
    /// memory in use before the contestant was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_per_watch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) children_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<Rate>,
    /// Duration of a registration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) watch_ns: Option<Percentiles>,
    /// Cost of a spawn with live children as a multiple of its cost without (medians).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spawn_cost_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spawn_cost: Option<SpawnCost>,
    /// Latency of each stage in exitring.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[serde(default)]
    pub(crate) stages: Vec<Stage>,
    /// Calls of `io_uring_enter` by exitring's ring thread, per exit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enters_per_exit: Option<f64>,
    /// Exits that waited because exitring's queue was full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stalls: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) soak: Option<Soak>,
    /// Time to shut down the contestant, with everything that it still watched; 0: it only releases a
    /// handle.
    #[serde(skip_serializing_if = "is_zero")]
    #[serde(default)]
    pub(crate) end_ns: u64,
    /// The latencies as an HdrHistogram in V2 format, in base64.
    pub(crate) histogram: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) histogram_from_plan: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) histogram_of_watch: Option<String>,
    /// The headline metric as a multiple of the reference's in the same round; null without it.
    pub(crate) ratio_to_reference: Option<f64>,
    /// The run ended early, because of an interrupt.
    pub(crate) interrupted: bool,
    pub(crate) warnings: Vec<Warning>,
}

/// Exits per second.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Rate {
    pub(crate) planned_per_s: f64,
    pub(crate) achieved_per_s: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Stage {
    pub(crate) stage: String,
    pub(crate) latency_ns: Percentiles,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SpawnCost {
    /// From the call to the known status, without live children.
    pub(crate) without_live_ns: Percentiles,
    /// Duration of the call alone, with and without live children.
    pub(crate) call_ns: Percentiles,
    pub(crate) call_without_live_ns: Percentiles,
}

/// The results of a soak.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Soak {
    pub(crate) seconds: f64,
    /// The number of children of each case.
    #[serde(rename = "acts")]
    pub(crate) cases: std::collections::BTreeMap<String, u64>,
    /// The number of children with each attribute of a command.
    #[serde(default)]
    pub(crate) attributes: std::collections::BTreeMap<String, u64>,
    /// Descendants of children that the watcher reaped.
    #[serde(default)]
    pub(crate) orphans: u64,
    /// The reason why no child had a cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) without_cgroups: Option<String>,
    /// What was left at the end, which counts as wrong.
    #[serde(default)]
    pub(crate) left: SoakLeft,
    /// Anonymous memory and open descriptors, sampled at even intervals, ten times or more.
    pub(crate) samples: Vec<SoakSample>,
}

/// What was left at the end of a soak.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SoakLeft {
    /// Children and their descendants that run.
    pub(crate) processes: u64,
    /// Those that have ended and were not reaped.
    pub(crate) zombies: u64,
    /// Cgroups of children.
    pub(crate) cgroups: u64,
    /// Open descriptors, beyond those that were open before.
    pub(crate) descriptors: u64,
}

impl SoakLeft {
    pub(crate) fn count(&self) -> u64 {
        self.processes + self.zombies + self.cgroups + self.descriptors
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SoakSample {
    pub(crate) exits: u64,
    pub(crate) bytes: u64,
    pub(crate) descriptors: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Run {
    pub(crate) fn set_latencies(&mut self, latencies: Latencies) -> Result<()> {
        self.latency_ns = latencies.percentiles();
        self.histogram = latencies.encode()?;
        Ok(())
    }

    pub(crate) fn set_latencies_from_plan(&mut self, latencies: Latencies) -> Result<()> {
        self.latency_from_plan_ns = Some(latencies.percentiles());
        self.histogram_from_plan = Some(latencies.encode()?);
        Ok(())
    }

    pub(crate) fn set_watch_latencies(&mut self, latencies: Latencies) -> Result<()> {
        self.watch_ns = Some(latencies.percentiles());
        self.histogram_of_watch = Some(latencies.encode()?);
        Ok(())
    }

    /// The histogram of the latencies that the scenario is about.
    pub(crate) fn main_histogram(&self) -> &str {
        let special = self
            .histogram_of_watch
            .as_ref()
            .or(self.histogram_from_plan.as_ref());
        special.unwrap_or(&self.histogram)
    }

    /// Whether every exit was delivered exactly once and with the right status.
    pub(crate) fn is_clean(&self) -> bool {
        let all_there = self.exits == self.children || self.interrupted;
        all_there && self.lost == 0 && self.duplicates == 0 && self.wrong == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_run_has_no_missing_lost_duplicate_or_wrong_exit() {
        assert!(Run::default().is_clean());
        let faults: [fn(&mut Run); 4] = [
            |run| run.children = 1,
            |run| run.lost = 1,
            |run| run.duplicates = 1,
            |run| run.wrong = 1,
        ];
        for fault in faults {
            let mut run = Run::default();
            fault(&mut run);
            assert!(!run.is_clean());
        }
        let interrupted = Run {
            children: 1,
            interrupted: true,
            ..Run::default()
        };
        assert!(interrupted.is_clean());
    }
}
