//! Whether children can have cgroups of their own, and which limits those can have.

use exitring::{Cgroup, CgroupLimits};
use serde::Serialize;

use super::findings::Probe;

/// The limits of a cgroup, with the controllers that they need.
const LIMITS: [(&str, &str); 3] = [
    ("memory", "memory"),
    ("processes", "pids"),
    ("CPU time", "cpu"),
];

/// What the cgroup v2 of this process allows.
#[derive(Debug, Serialize)]
pub(super) struct CgroupFinding {
    /// Whether groups for children can be made.
    #[serde(flatten)]
    pub(super) probe: Probe,
    /// The directory of the cgroup.
    pub(super) path: Option<String>,
    /// The controllers that are available in it.
    controllers: Vec<String>,
}

impl CgroupFinding {
    /// Makes a pool of groups, and removes it.
    ///
    /// No controller is enabled, because it would stay enabled.
    pub(super) fn find() -> Self {
        let found = Cgroup::find();
        let group = found.as_ref().ok();
        Self {
            path: group.map(|group| group.path().display().to_string()),
            controllers: group
                .and_then(|group| group.controllers().ok())
                .unwrap_or_default(),
            probe: Probe::of(found.and_then(|group| group.pool(&CgroupLimits::new()))),
        }
    }

    /// The limits that children can have, and those whose controllers are missing.
    pub(super) fn limits(&self) -> String {
        let has = |controller| self.controllers.iter().any(|name| name == controller);
        let names = |available: bool| {
            let limits = LIMITS
                .iter()
                .filter(|(_, controller)| has(controller) == available);
            limits.map(|(limit, _)| *limit).collect::<Vec<_>>()
        };
        let (limits, missing) = (names(true), names(false));
        match (limits.is_empty(), missing.is_empty()) {
            (_, true) => limits.join(", "),
            (true, _) => "none: its controllers do not include memory, pids or cpu".into(),
            _ => format!(
                "{}; no controller for {}",
                limits.join(", "),
                missing.join(", ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(controllers: &[&str]) -> String {
        let found: Result<(), exitring::CgroupError> = Ok(());
        let finding = CgroupFinding {
            probe: Probe::of(found),
            path: None,
            controllers: controllers.iter().map(|&name| name.into()).collect(),
        };
        finding.limits()
    }

    #[test]
    fn the_limits_are_those_with_a_controller() {
        assert_eq!(
            limits(&["cpuset", "cpu", "io", "memory", "pids"]),
            "memory, processes, CPU time"
        );
        assert_eq!(
            limits(&["memory", "pids"]),
            "memory, processes; no controller for CPU time"
        );
        assert!(limits(&["hugetlb"]).starts_with("none"));
    }
}
