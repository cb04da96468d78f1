//! The metrics by which runs are compared: name, value in a run, and format.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::run::Run;

#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    ValueEnum,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Metric {
    /// Median latency from the child's last instruction to the known status; of a child that
    /// executes a program, from the call that starts it
    P50,
    P90,
    P99,
    #[value(name = "p99.9")]
    #[serde(rename = "p99.9")]
    P99_9,
    Max,
    /// Median latency from the planned time to the known status
    PlanP50,
    PlanP99,
    #[value(name = "plan-p99.9")]
    #[serde(rename = "plan-p99.9")]
    PlanP99_9,
    /// Median duration of a registration
    WatchP50,
    WatchP99,
    WatchMax,
    /// Time from the start of a storm to its last callback
    Drain,
    /// Children per second
    Rate,
    /// CPU time per exit
    Cpu,
    /// Context switches per exit
    Switches,
    /// Open descriptors
    Fds,
    /// Memory per watch
    Bytes,
    /// Cost of a spawn with live children, as a multiple of its cost without
    SpawnCost,
    /// Median duration of the call of spawn, with live children
    SpawnCall,
    /// Calls of io_uring_enter per exit
    Enters,
    /// Time to shut down exitring
    End,
    Lost,
    Duplicates,
    Wrong,
}

/// What a metric measures, which decides how a difference is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sense {
    /// A time that passes: less is faster.
    Time,
    /// Events per second: more is faster.
    Rate,
    /// A cost or a count.
    Amount,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
    Bytes,
    Number,
    Ratio,
    PerSecond,
}

impl Metric {
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The heading in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::P50 => "latency p50",
            Self::P90 => "latency p90",
            Self::P99 => "latency p99",
            Self::P99_9 => "latency p99.9",
            Self::Max => "latency max",
            Self::PlanP50 => "from plan p50",
            Self::PlanP99 => "from plan p99",
            Self::PlanP99_9 => "from plan p99.9",
            Self::WatchP50 => "watch p50",
            Self::WatchP99 => "watch p99",
            Self::WatchMax => "watch max",
            Self::Drain => "drain time",
            Self::Rate => "children/s",
            Self::Cpu => "CPU per exit",
            Self::Switches => "switches per exit",
            Self::Fds => "descriptors held",
            Self::Bytes => "bytes per watch",
            Self::SpawnCost => "spawn cost ratio",
            Self::SpawnCall => "call of spawn p50",
            Self::Enters => "enters per exit",
            Self::End => "time to end",
            Self::Lost => "lost",
            Self::Duplicates => "duplicates",
            Self::Wrong => "wrong",
        }
    }

    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::Bytes => Unit::Bytes,
            Self::Rate => Unit::PerSecond,
            Self::Fds | Self::Lost | Self::Duplicates | Self::Wrong => Unit::Number,
            Self::SpawnCost | Self::Switches | Self::Enters => Unit::Ratio,
            _ => Unit::Nanoseconds,
        }
    }

    pub(crate) fn sense(self) -> Sense {
        match (self, self.unit()) {
            (_, Unit::PerSecond) => Sense::Rate,
            // CPU time is a cost: another thread may spend it while nobody waits.
            (Self::Cpu, _) => Sense::Amount,
            (_, Unit::Nanoseconds) => Sense::Time,
            _ => Sense::Amount,
        }
    }

    pub(crate) fn more_is_better(self) -> bool {
        self.sense() == Sense::Rate
    }

    /// The value in a run; `None` if it was not measured, or has too few samples.
    pub(crate) fn of(self, run: &Run) -> Option<f64> {
        let plan = run.latency_from_plan_ns.as_ref();
        let watch = run.watch_ns.as_ref();
        let whole = |number: Option<u64>| number.map(|number| number as f64);
        match self {
            Self::P50 => whole(run.latency_ns.p50),
            Self::P90 => whole(run.latency_ns.p90),
            Self::P99 => whole(run.latency_ns.p99),
            Self::P99_9 => whole(run.latency_ns.p99_9),
            Self::Max => whole(run.latency_ns.max),
            Self::PlanP50 => whole(plan?.p50),
            Self::PlanP99 => whole(plan?.p99),
            Self::PlanP99_9 => whole(plan?.p99_9),
            Self::WatchP50 => whole(watch?.p50),
            Self::WatchP99 => whole(watch?.p99),
            Self::WatchMax => whole(watch?.max),
            Self::Drain => (run.drain_ns > 0).then_some(run.drain_ns as f64),
            Self::Rate => run.children_per_s,
            Self::Cpu => (run.cpu_ns_per_exit > 0).then_some(run.cpu_ns_per_exit as f64),
            Self::Switches => run.switches_per_exit,
            Self::Fds => Some(run.fds_held as f64),
            Self::Bytes => whole(run.bytes_per_watch),
            Self::SpawnCost => run.spawn_cost_ratio,
            Self::SpawnCall => whole(run.spawn_cost.as_ref()?.call_ns.p50),
            Self::Enters => run.enters_per_exit,
            Self::End => (run.end_ns > 0).then_some(run.end_ns as f64),
            Self::Lost => Some(run.lost as f64),
            Self::Duplicates => Some(run.duplicates as f64),
            Self::Wrong => Some(run.wrong as f64),
        }
    }

    /// Formats a value for people.
    pub(crate) fn show(self, value: f64) -> String {
        match self.unit() {
            Unit::Nanoseconds if value >= 1e9 => format!("{:.2} s", value / 1e9),
            Unit::Nanoseconds if value >= 1e6 => format!("{:.1} ms", value / 1e6),
            Unit::Nanoseconds => format!("{:.1} µs", value / 1e3),
            Unit::Bytes if value >= 1e4 => format!("{:.1} KiB", value / 1024.0),
            Unit::Bytes => format!("{value:.0} B"),
            Unit::Number => format!("{value:.0}"),
            Unit::Ratio => format!("{value:.3}"),
            Unit::PerSecond => format!("{value:.0}/s"),
        }
    }
}
