//! What `exitring doctor` finds out about the machine.

use std::error::Error;

use exitring::limits::{self, Limit, Source};
use exitring::{Backend, Watcher};
use serde::Serialize;

use super::cgroups::CgroupFinding;
use crate::failure::chain;

/// How many watches a watcher holds, unless its builder sets another number.
const WATCHES_MAX: u64 = 1 << 20;

/// The descriptors of `exitring run` besides those of the watcher: the list, the two ends of the
/// signal pipe (the write end with a copy for each of four signals), the event queue, an epoll.
const RUN_DESCRIPTORS: u64 = 1 + 5 + 1 + 1;
/// The descriptors that the start of a job needs: its ends of the job's pipes, and one for the
/// spawn.
const SPAWN_DESCRIPTORS: u64 = 3;

const NO_WATCHER: &str = "no watcher can be built";

/// The findings. JSON readers rely on these fields; others may be added.
#[derive(Debug, Serialize)]
pub(crate) struct Findings {
    pub(super) version: &'static str,
    pub(super) kernel: String,
    /// Which process reaps orphans.
    pub(super) orphans: String,
    /// The backend of a watcher. `None` if no watcher can be built.
    pub(super) backend: Option<&'static str>,
    /// Why the backend is not a better one.
    pub(super) fallback: Option<String>,
    pub(super) io_uring: Probe,
    pub(super) pidfd: Probe,
    /// Whether the status of a process that is not a child is available once its parent reaps it.
    pub(super) watch_reaped: Probe,
    /// Whether children can have cgroups of their own.
    pub(super) cgroups: CgroupFinding,
    pub(super) descriptors_soft: Option<u64>,
    pub(super) descriptors_hard: Option<u64>,
    pub(super) descriptors_open: u64,
    pub(super) process_limits: Vec<LimitFinding>,
    /// How many more processes can run, and the limit that bounds them.
    pub(super) processes_at_a_time: Option<u64>,
    pub(super) processes_bounded_by: Option<String>,
    /// How many processes can be watched, and what bounds them.
    pub(super) watches_at_a_time: Option<u64>,
    pub(super) watches_bounded_by: Option<String>,
    /// How many jobs of `exitring run` can have their output captured, as far as descriptors go.
    pub(super) captured_jobs_at_a_time: Option<u64>,
    pub(super) remedies: Vec<String>,
}

/// The result of trying a facility of the kernel.
#[derive(Debug, Serialize)]
pub(super) struct Probe {
    available: bool,
    pub(super) why_not: Option<String>,
}

impl Probe {
    pub(super) fn of<T>(tried: Result<T, impl Error>) -> Self {
        let why_not = tried.err().map(|error| chain(&error));
        Self {
            available: why_not.is_none(),
            why_not,
        }
    }

    fn unavailable(why_not: &str) -> Self {
        Self {
            available: false,
            why_not: Some(why_not.into()),
        }
    }
}

/// A limit on processes, as it is printed.
#[derive(Debug, Serialize)]
pub(super) struct LimitFinding {
    pub(super) name: String,
    pub(super) max: u64,
    pub(super) used: u64,
    remedy: String,
}

impl From<&Limit> for LimitFinding {
    fn from(limit: &Limit) -> Self {
        let name = limit.source.to_string();
        let remedy = match &limit.source {
            Source::PidMax | Source::ThreadsMax => {
                format!("sysctl {name}={}", (limit.max * 4).min(4 << 20))
            }
            Source::UserProcesses => "raise ulimit -u (limits.conf, systemd: LimitNPROC)".into(),
            Source::Cgroup { .. } => {
                "raise it (systemd: TasksMax, Docker: --pids-limit, Kubernetes: podPidsLimit)"
                    .into()
            }
            _ => "raise it".into(),
        };
        Self {
            name,
            max: limit.max,
            used: limit.used,
            remedy,
        }
    }
}

impl Findings {
    pub(crate) fn find() -> Self {
        // First, while no watcher of this function is open.
        let descriptors = limits::descriptors();
        let watcher_descriptors = watcher_descriptors(descriptors.open);
        let io_uring = Probe::of(Watcher::builder().backend(Backend::Uring).build());
        let watcher = Watcher::new();
        let own = std::process::id();
        let (backend, fallback, pidfd, watch_reaped, no_watcher) = match &watcher {
            Ok(watcher) => {
                let stats = watcher.stats();
                let pidfd = Probe::of(watcher.watch(own));
                let reaped = Probe::of(watcher.watch_reaped(own));
                (Some(stats.backend), stats.fallback, pidfd, reaped, None)
            }
            Err(error) => {
                let none = || Probe::unavailable(NO_WATCHER);
                (None, None, none(), none(), Some(chain(error)))
            }
        };
        let process_limits: Vec<_> = limits::processes();
        let least = process_limits.iter().min_by_key(|limit| limit.free());
        let least = least.map(|limit| (limit.free(), LimitFinding::from(limit)));
        let mut remedies: Vec<_> = no_watcher.into_iter().collect();
        remedies.extend(io_uring.why_not.clone());
        remedies.extend(pidfd.why_not.clone());
        let cgroups = CgroupFinding::find();
        remedies.extend(cgroups.probe.why_not.clone());
        remedies.extend(
            least
                .as_ref()
                .map(|(_, limit)| format!("for more processes at a time: {}", limit.remedy)),
        );
        let (watches_at_a_time, watches_bounded_by) = match backend {
            None => (Some(0), NO_WATCHER),
            Some("io_uring") => (
                Some(WATCHES_MAX),
                "Builder::max_watches: a watch costs no descriptor",
            ),
            Some("epoll") => {
                remedies.extend(descriptors.soft.map(|soft| {
                    format!("for more watches at a time: raise ulimit -n, which is {soft}")
                }));
                (
                    descriptors
                        .soft
                        .map(|soft| soft.saturating_sub(descriptors.open)),
                    "RLIMIT_NOFILE: with epoll a watch costs a descriptor",
                )
            }
            Some(_) => (
                Some(0),
                "without pidfds only children of the watcher can be watched",
            ),
        };
        let captured_jobs_at_a_time = descriptors.soft.map(|soft| {
            let taken = descriptors.open
                + watcher_descriptors.unwrap_or(soft)
                + RUN_DESCRIPTORS
                + SPAWN_DESCRIPTORS;
            soft.saturating_sub(taken) / descriptors_per_job(backend)
        });
        if captured_jobs_at_a_time == Some(0) {
            remedies.push(format!(
                "for `exitring run`: raise ulimit -n, which is {}; it needs some 20 descriptors, and 2 more for each job",
                number(descriptors.soft)
            ));
        }
        Self {
            version: env!("CARGO_PKG_VERSION"),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            orphans: orphan_reaper(),
            backend,
            fallback,
            io_uring,
            pidfd,
            watch_reaped,
            cgroups,
            descriptors_soft: descriptors.soft,
            descriptors_hard: descriptors.hard,
            descriptors_open: descriptors.open,
            process_limits: process_limits.iter().map(LimitFinding::from).collect(),
            processes_at_a_time: least.as_ref().map(|(free, _)| *free),
            processes_bounded_by: least.map(|(_, limit)| limit.name),
            watches_at_a_time,
            watches_bounded_by: Some(watches_bounded_by.into()),
            captured_jobs_at_a_time,
            remedies,
        }
    }

    /// Whether processes can be watched here, and jobs run.
    pub(crate) fn is_usable(&self) -> bool {
        self.backend.is_some() && self.captured_jobs_at_a_time != Some(0)
    }
}

/// The descriptors of a job whose output is captured: two pipes, and the watch with epoll.
pub(super) fn descriptors_per_job(backend: Option<&str>) -> u64 {
    2 + u64::from(backend == Some("epoll"))
}

pub(super) fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "unlimited".into(), |number| number.to_string())
}

/// The process that reaps orphans. It is process 1, which in a container may be a program that does
/// not reap.
fn orphan_reaper() -> String {
    if crate::init::is_running() {
        return "reaped by exitring, which is process 1 here".into();
    }
    match std::fs::read_to_string("/proc/1/comm") {
        Ok(name) => format!("left to process 1, {}", name.trim()),
        Err(_) => "left to process 1".into(),
    }
}

/// How many descriptors a watcher with a queue of exits opens, found out by building one. `None` if
/// there are too few for it.
fn watcher_descriptors(before: u64) -> Option<u64> {
    let watcher = Watcher::builder().workers(0).build().ok()?;
    let _exits = watcher.exits(1).ok()?;
    let open = limits::descriptors().open;
    // Not above `before` if no descriptor was left to read the directory with.
    Some(open)
        .filter(|&open| open > before)
        .map(|open| open - before)
}
