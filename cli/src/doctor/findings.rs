//! What was found out.

use std::fmt;

use anstyle::{AnsiColor, Style};
use exitring::{Backend, Watcher};
use serde::Serialize;

use super::limits::{self, Limit};
use crate::failure::chain;

/// How many a watcher takes unless it is told otherwise.
const WATCHES_MAX: u64 = 1 << 20;

/// What `exitring run` has open besides the watcher: the list, the signals' two ends (of the second a copy for each of four),
/// the inbox, an epoll.
const RUN_HAS_OPEN: u64 = 1 + 5 + 1 + 1;
/// While a job is being started, the ends of its pipes that it will have, and one more for the start.
const START_NEEDS: u64 = 3;

/// Of the machine. These fields stay; others may be added.
#[derive(Debug, Serialize)]
pub(crate) struct Findings {
    version: &'static str,
    kernel: String,
    /// Who reaps what loses its parent.
    orphans: String,
    /// What is waited with; nothing if no watcher can be built.
    backend: Option<&'static str>,
    /// Why it is no better one.
    fallback: Option<String>,
    io_uring: Try,
    pidfd: Try,
    /// Whether the status of processes that are no children may be told: once they are reaped.
    watch_reaped: Try,
    descriptors_soft: Option<u64>,
    descriptors_hard: Option<u64>,
    descriptors_open: u64,
    process_limits: Vec<Limit>,
    /// How many of our own can run, and which limit bounds that.
    processes_at_a_time: Option<u64>,
    processes_bounded_by: Option<String>,
    /// How many can be watched, and which limit bounds that.
    watches_at_a_time: Option<u64>,
    watches_bounded_by: Option<String>,
    /// How many jobs of `exitring run` can have their output taken in at a time, as far as descriptors go.
    captured_jobs_at_a_time: Option<u64>,
    remedies: Vec<String>,
}

/// How it went.
#[derive(Debug, Serialize)]
struct Try {
    available: bool,
    why_not: Option<String>,
}

impl Try {
    fn of<T>(tried: Result<T, impl std::error::Error>) -> Self {
        let why_not = tried.err().map(|error| chain(&error));
        Self {
            available: why_not.is_none(),
            why_not,
        }
    }
}

impl Findings {
    pub(crate) fn find() -> Self {
        // Before we have some ourselves.
        let (descriptors_soft, descriptors_hard, descriptors_open) = limits::descriptors();
        let watcher_has_open = watcher_has_open(descriptors_open);
        let io_uring = Try::of(Watcher::builder().backend(Backend::Uring).build());
        let watcher = Watcher::new();
        let own = std::process::id();
        let (backend, fallback, pidfd, watch_reaped, no_watcher) = match &watcher {
            Ok(watcher) => {
                let stats = watcher.stats();
                let (pidfd, reaped) = (
                    Try::of(watcher.watch(own)),
                    Try::of(watcher.watch_reaped(own)),
                );
                (Some(stats.backend), stats.fallback, pidfd, reaped, None)
            }
            Err(error) => {
                let none = || Try {
                    available: false,
                    why_not: Some("no watcher can be built".into()),
                };
                (None, None, none(), none(), Some(chain(error)))
            }
        };
        let process_limits = limits::process_limits();
        let least = process_limits.iter().min_by_key(|limit| limit.free());
        let mut remedies: Vec<_> = no_watcher.into_iter().collect();
        remedies.extend(io_uring.why_not.clone());
        remedies.extend(pidfd.why_not.clone());
        remedies
            .extend(least.map(|limit| format!("for more processes at a time: {}", limit.remedy)));
        let (watches_at_a_time, watches_bounded_by) = match backend {
            None => (Some(0), Some("no watcher can be built".into())),
            Some("io_uring") => (
                Some(WATCHES_MAX),
                Some("Builder::max_watches: a watch costs no descriptor".into()),
            ),
            Some("epoll") => {
                remedies.extend(descriptors_soft.map(|soft| {
                    format!("for more watches at a time: raise ulimit -n, which is {soft}")
                }));
                let free = descriptors_soft.map(|soft| soft.saturating_sub(descriptors_open));
                (
                    free,
                    Some("RLIMIT_NOFILE: with epoll a watch costs a descriptor".into()),
                )
            }
            Some(_) => (
                Some(0),
                Some("without pidfds only children of our own can be watched".into()),
            ),
        };
        let captured_jobs_at_a_time = descriptors_soft.map(|soft| {
            let taken =
                descriptors_open + watcher_has_open.unwrap_or(soft) + RUN_HAS_OPEN + START_NEEDS;
            // Two pipes, and with epoll the watch.
            let each = 2 + u64::from(backend == Some("epoll"));
            soft.saturating_sub(taken) / each
        });
        if captured_jobs_at_a_time == Some(0) {
            remedies.push(format!(
                "for `exitring run`: raise ulimit -n, which is {}; it needs some 20 descriptors, and 2 more for each job",
                number(descriptors_soft)
            ));
        }
        Self {
            version: env!("CARGO_PKG_VERSION"),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            orphans: who_reaps(),
            backend,
            fallback,
            io_uring,
            pidfd,
            watch_reaped,
            descriptors_soft,
            descriptors_hard,
            descriptors_open,
            processes_at_a_time: least.map(Limit::free),
            processes_bounded_by: least.map(|limit| limit.name.clone()),
            process_limits,
            watches_at_a_time,
            watches_bounded_by,
            captured_jobs_at_a_time,
            remedies,
        }
    }

    /// Whether processes can be watched here, and jobs run.
    pub(crate) fn are_well(&self) -> bool {
        self.backend.is_some() && self.captured_jobs_at_a_time != Some(0)
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let good = AnsiColor::Green.on_default();
        let bad = AnsiColor::Yellow.on_default();
        let bold = Style::new().bold();
        let line = |f: &mut fmt::Formatter<'_>, name: &str, value: &dyn fmt::Display| {
            writeln!(f, "{bold}{name:<20}{bold:#} {value}")
        };
        let tried = |tried: &Try| match &tried.why_not {
            None => format!("{good}available{good:#}"),
            Some(why) => format!("{bad}not available{bad:#}: {why}"),
        };
        line(f, "exitring", &self.version)?;
        line(f, "kernel", &self.kernel)?;
        line(f, "orphans", &self.orphans)?;
        line(
            f,
            "backend",
            &self.backend.unwrap_or("none: nothing can be watched here"),
        )?;
        if let Some(why) = &self.fallback {
            line(f, "", &format!("because {why}"))?;
        }
        line(f, "io_uring", &tried(&self.io_uring))?;
        line(f, "pidfds", &tried(&self.pidfd))?;
        line(f, "moment of the reap", &tried(&self.watch_reaped))?;
        let (soft, hard) = (number(self.descriptors_soft), number(self.descriptors_hard));
        line(
            f,
            "descriptors",
            &format!(
                "{} open; soft limit {soft}, hard limit {hard}",
                self.descriptors_open
            ),
        )?;
        for (index, limit) in self.process_limits.iter().enumerate() {
            let name = if index == 0 { "process limits" } else { "" };
            line(
                f,
                name,
                &format!("{}: {} of {} in use", limit.name, limit.used, limit.max),
            )?;
        }
        let bound = |count, by: &Option<String>| match by {
            Some(by) => format!("{} ({by})", number(count)),
            None => number(count),
        };
        line(
            f,
            "processes at a time",
            &bound(self.processes_at_a_time, &self.processes_bounded_by),
        )?;
        line(
            f,
            "watches at a time",
            &bound(self.watches_at_a_time, &self.watches_bounded_by),
        )?;
        let each = 2 + u64::from(self.backend == Some("epoll"));
        let captured = number(self.captured_jobs_at_a_time);
        let captured = format!("{captured} with their output taken in, at {each} descriptors each");
        line(f, "jobs at a time", &captured)?;
        for (index, remedy) in self.remedies.iter().enumerate() {
            line(f, if index == 0 { "remedies" } else { "" }, remedy)?;
        }
        Ok(())
    }
}

/// Who reaps what loses its parent: process 1, which in a container may be what was not made for that.
fn who_reaps() -> String {
    if crate::init::has_stayed() {
        return "reaped by exitring, which is process 1 here".into();
    }
    match std::fs::read_to_string("/proc/1/comm") {
        Ok(name) => format!("left to process 1, {}", name.trim()),
        Err(_) => "left to process 1".into(),
    }
}

/// How many descriptors a watcher takes with a queue of exits, by trying it; `None` if there are too few for it.
fn watcher_has_open(before: u64) -> Option<u64> {
    let watcher = Watcher::builder().workers(0).build().ok()?;
    let _exits = watcher.exits(1).ok()?;
    let (_, _, open) = limits::descriptors();
    // None, if not even the listing could be opened.
    Some(open)
        .filter(|&open| open > before)
        .map(|open| open - before)
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "unlimited".into(), |number| number.to_string())
}
