//! What one run found.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contestants::Kind;
use crate::latency::{Latencies, Percentiles};
use crate::warning::Warning;

/// One contestant in one scenario, once. What a scenario does not measure is left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Run {
    pub(crate) contestant: Kind,
    /// The same for people, with what matters of its settings.
    pub(crate) title: String,
    /// Which repetition, from 1 on.
    pub(crate) round: u32,
    /// Children that lived on while it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) live: Option<u32>,
    /// Children whose exits were to be measured.
    pub(crate) children: u64,
    /// Of these, the ones delivered.
    pub(crate) exits: u64,
    /// Of all children, the live ones included: ended, and never delivered.
    pub(crate) lost: u64,
    /// Deliveries beyond the first.
    pub(crate) duplicates: u64,
    /// Delivered with the wrong pid or status.
    pub(crate) wrong: u64,
    /// From the child's last instruction to the contestant's knowing how it ended.
    pub(crate) latency_ns: Percentiles,
    /// The same from the planned moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_from_plan_ns: Option<Percentiles>,
    /// From the planned moment to the child's last instruction: how well the load was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lateness_ns: Option<Percentiles>,
    /// From the release to the knowing of the last exit.
    #[serde(skip_serializing_if = "is_zero")]
    #[serde(default)]
    pub(crate) drain_ns: u64,
    /// User and system time of the process while it was measured, reaping included; 0: not measured.
    pub(crate) cpu_ns_per_exit: u64,
    /// Descriptors held while all are watched, beyond those open before there was a contestant.
    pub(crate) fds_held: u64,
    /// Anonymous memory (heap and stacks) while all are watched, beyond that before, for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_per_watch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) children_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<Rate>,
    /// How long a registration took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) watch_ns: Option<Percentiles>,
    /// What a spawn costs with live children, as a multiple of what it costs without (medians).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spawn_cost_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spawn_cost: Option<SpawnCost>,
    /// The way of an exit through exitring.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[serde(default)]
    pub(crate) stages: Vec<Stage>,
    /// How often exitring's ring thread entered the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enters_per_exit: Option<f64>,
    /// How often exits found exitring's queue full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stalls: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) soak: Option<Soak>,
    /// How long the contestant took to end, with all that it still watched.
    #[serde(skip_serializing_if = "is_zero")]
    #[serde(default)]
    pub(crate) end_ns: u64,
    /// Latencies, as an HdrHistogram in V2 format, in base64.
    pub(crate) histogram: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) histogram_from_plan: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) histogram_of_watch: Option<String>,
    /// The headline of the scenario as a multiple of exitring's in the same round; null if exitring is not there.
    pub(crate) ratio_to_exitring: Option<f64>,
    /// It was cut short.
    pub(crate) interrupted: bool,
    pub(crate) warnings: Vec<Warning>,
}

/// Exits a second.
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
    /// From the call to the knowing of the exit, without live children.
    pub(crate) without_live_ns: Percentiles,
    /// The call alone, with and without.
    pub(crate) call_ns: Percentiles,
    pub(crate) call_without_live_ns: Percentiles,
}

/// What a soak did and held.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Soak {
    pub(crate) seconds: f64,
    /// What was done to children, and to how many.
    pub(crate) acts: std::collections::BTreeMap<String, u64>,
    /// Anonymous memory and descriptors, ten times or more, evenly spread.
    pub(crate) samples: Vec<SoakSample>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SoakSample {
    pub(crate) exits: u64,
    pub(crate) bytes: u64,
    pub(crate) descriptors: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Run {
    pub(crate) fn latencies(&mut self, latencies: Latencies) -> Result<()> {
        self.latency_ns = latencies.percentiles();
        self.histogram = latencies.encode()?;
        Ok(())
    }

    pub(crate) fn planned_latencies(&mut self, latencies: Latencies) -> Result<()> {
        self.latency_from_plan_ns = Some(latencies.percentiles());
        self.histogram_from_plan = Some(latencies.encode()?);
        Ok(())
    }

    pub(crate) fn watch_latencies(&mut self, latencies: Latencies) -> Result<()> {
        self.watch_ns = Some(latencies.percentiles());
        self.histogram_of_watch = Some(latencies.encode()?);
        Ok(())
    }

    /// The latencies that the run is about.
    pub(crate) fn main_histogram(&self) -> &str {
        let special = self
            .histogram_of_watch
            .as_ref()
            .or(self.histogram_from_plan.as_ref());
        special.unwrap_or(&self.histogram)
    }

    /// Whether every exit was delivered once and right.
    pub(crate) fn is_clean(&self) -> bool {
        let all_there = self.exits == self.children || self.interrupted;
        all_there && self.lost == 0 && self.duplicates == 0 && self.wrong == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_clean_only_without_missing_lost_duplicate_and_wrong_exits() {
        assert!(Run::default().is_clean());
        let spoils: [fn(&mut Run); 4] = [
            |run| run.children = 1,
            |run| run.lost = 1,
            |run| run.duplicates = 1,
            |run| run.wrong = 1,
        ];
        for spoil in spoils {
            let mut spoilt = Run::default();
            spoil(&mut spoilt);
            assert!(!spoilt.is_clean());
        }
        let cut_short = Run {
            children: 1,
            interrupted: true,
            ..Run::default()
        };
        assert!(cut_short.is_clean());
    }
}
