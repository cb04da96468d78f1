//! The limits on processes and descriptors, and how much of each is in use.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, geteuid, getrlimit, getuid};
use serde::Serialize;

/// Pids below this are never given a second time (`RESERVED_PIDS` of the kernel).
const RESERVED_PIDS: u64 = 300;

/// One limit on how many processes there may be.
#[derive(Debug, Serialize)]
pub(crate) struct Limit {
    pub(crate) name: String,
    pub(crate) max: u64,
    pub(crate) used: u64,
    pub(crate) remedy: String,
}

impl Limit {
    pub(crate) fn free(&self) -> u64 {
        self.max.saturating_sub(self.used)
    }
}

/// All that bound how many processes we may have.
pub(crate) fn process_limits() -> Vec<Limit> {
    let tasks = tasks_on_machine().unwrap_or(0);
    let sysctl = |name: &str, file: &str, used| {
        let max = read_number(Path::new(file))?;
        let remedy = format!("sysctl {name}={}", (max * 4).min(4 << 20));
        Some(Limit {
            name: name.into(),
            max,
            used,
            remedy,
        })
    };
    let pid_max = sysctl(
        "kernel.pid_max",
        "/proc/sys/kernel/pid_max",
        tasks + RESERVED_PIDS,
    );
    let threads_max = sysctl("kernel.threads-max", "/proc/sys/kernel/threads-max", tasks);
    let nproc = getrlimit(Resource::Nproc)
        .current
        .filter(|_| !geteuid().is_root())
        .map(|max| Limit {
            name: "RLIMIT_NPROC".into(),
            max,
            used: tasks_of_user(),
            remedy: "raise ulimit -u (limits.conf, systemd: LimitNPROC)".into(),
        });
    let mut limits: Vec<_> = [pid_max, threads_max, nproc]
        .into_iter()
        .flatten()
        .collect();
    limits.extend(cgroup_limits());
    limits
}

/// Soft and hard limit on descriptors, and how many are open.
pub(crate) fn descriptors() -> (Option<u64>, Option<u64>, u64) {
    let nofile = getrlimit(Resource::Nofile);
    // The listing itself needs one.
    let open = fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count().saturating_sub(1)) as u64;
    (nofile.current, nofile.maximum, open)
}

pub(crate) fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Processes and threads, from `/proc/loadavg` (`proc(5)`).
fn tasks_on_machine() -> Option<u64> {
    let loadavg = fs::read_to_string("/proc/loadavg").ok()?;
    let (_, total) = loadavg.split_whitespace().nth(3)?.split_once('/')?;
    total.parse().ok()
}

fn tasks_of_user() -> u64 {
    let uid = getuid().as_raw();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ours = processes.filter(|process| process.metadata().is_ok_and(|meta| meta.uid() == uid));
    ours.map(|process| fs::read_dir(process.path().join("task")).map_or(0, Iterator::count) as u64)
        .sum()
}

/// `pids.max` of our cgroup and of those above it, in either version of cgroups.
fn cgroup_limits() -> Vec<Limit> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = cgroups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let mount = match fields.next()? {
            "" => "/sys/fs/cgroup",
            "pids" => "/sys/fs/cgroup/pids",
            _ => return None,
        };
        Some((
            mount,
            PathBuf::from(mount).join(fields.next()?.trim_start_matches('/')),
        ))
    });
    let limits = groups.flat_map(|(mount, group)| {
        let above: Vec<_> = group
            .ancestors()
            .take_while(|dir| dir.starts_with(mount))
            .map(cgroup_limit)
            .collect();
        above.into_iter().flatten()
    });
    limits.collect()
}

fn cgroup_limit(group: &Path) -> Option<Limit> {
    let file = group.join("pids.max");
    // "max" is no number, and no limit.
    Some(Limit {
        max: read_number(&file)?,
        used: read_number(&group.join("pids.current")).unwrap_or(0),
        name: file.display().to_string(),
        remedy: "raise it (systemd: TasksMax, Docker: --pids-limit, Kubernetes: podPidsLimit)"
            .into(),
    })
}
