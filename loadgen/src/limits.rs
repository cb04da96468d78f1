//! How many processes this machine lets us have, asked before the first is forked.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Pids below this are never given a second time (`RESERVED_PIDS` of the kernel).
const RESERVED_PIDS: u64 = 300;
/// Room left to everybody else.
const SLACK: u64 = 64;

/// One limit, and how much of it is in use.
#[derive(Debug)]
struct Limit {
    name: String,
    max: u64,
    used: u64,
}

/// Says why `children` more processes are too many, if they are.
pub(crate) fn check_processes(children: u64) -> Result<()> {
    for limit in process_limits()? {
        let free = limit.max.saturating_sub(limit.used + SLACK);
        if children > free {
            bail!(
                "{children} children are too many for this machine: {} is {}, of which {} are in use; \
                 at most {free} can be had",
                limit.name,
                limit.max,
                limit.used,
            );
        }
    }
    Ok(())
}

/// Says why so many descriptors in one process are too many, if they are.
pub(crate) fn check_descriptors(descriptors: u64) -> Result<()> {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    match hard {
        Some(hard) if descriptors > hard => {
            bail!(
                "needs {descriptors} descriptors, one for each child, and RLIMIT_NOFILE (ulimit -n) allows {hard}"
            )
        }
        _ => Ok(()),
    }
}

fn process_limits() -> Result<Vec<Limit>> {
    let tasks = tasks_on_machine()?;
    let mut limits = vec![
        Limit {
            name: "the sysctl kernel.pid_max".into(),
            max: read_number("/proc/sys/kernel/pid_max")?,
            used: tasks + RESERVED_PIDS,
        },
        Limit {
            name: "the sysctl kernel.threads-max".into(),
            max: read_number("/proc/sys/kernel/threads-max")?,
            used: tasks,
        },
    ];
    // Root is not held to RLIMIT_NPROC.
    let root = rustix::process::geteuid().is_root();
    let nproc = rustix::process::getrlimit(rustix::process::Resource::Nproc).current;
    if let (false, Some(max)) = (root, nproc) {
        limits.push(Limit {
            name: "RLIMIT_NPROC (ulimit -u)".into(),
            max,
            used: tasks_of_user(),
        });
    }
    limits.extend(cgroup_limits());
    Ok(limits)
}

/// Processes and threads, from `/proc/loadavg` (`proc(5)`).
fn tasks_on_machine() -> Result<u64> {
    let loadavg = fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg")?;
    loadavg
        .split_whitespace()
        .nth(3)
        .and_then(|entities| entities.split_once('/'))
        .and_then(|(_, total)| total.parse().ok())
        .with_context(|| format!("no count of tasks in /proc/loadavg: {loadavg:?}"))
}

fn tasks_of_user() -> u64 {
    use std::os::unix::fs::MetadataExt;
    let uid = rustix::process::getuid().as_raw();
    let Ok(processes) = fs::read_dir("/proc") else {
        return 0;
    };
    processes
        .flatten()
        .filter(|process| process.metadata().is_ok_and(|meta| meta.uid() == uid))
        .map(|process| fs::read_dir(process.path().join("task")).map_or(0, Iterator::count) as u64)
        .sum()
}

/// `pids.max` of our cgroup and of those above it, in either version of cgroups.
fn cgroup_limits() -> Vec<Limit> {
    let Ok(cgroups) = fs::read_to_string("/proc/self/cgroup") else {
        return Vec::new();
    };
    let mut limits = Vec::new();
    for line in cgroups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let mount = match controllers {
            "" => "/sys/fs/cgroup",
            "pids" => "/sys/fs/cgroup/pids",
            _ => continue,
        };
        let group = PathBuf::from(mount).join(path.trim_start_matches('/'));
        for group in group.ancestors().take_while(|dir| dir.starts_with(mount)) {
            limits.extend(cgroup_limit(group));
        }
    }
    limits
}

fn cgroup_limit(group: &Path) -> Option<Limit> {
    let file = group.join("pids.max");
    // "max" is no limit.
    let max = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
    let used = read_number(group.join("pids.current")).unwrap_or(0);
    Some(Limit {
        name: format!("the cgroup's {}", file.display()),
        max,
        used,
    })
}

fn read_number(path: impl AsRef<Path>) -> Result<u64> {
    let path = path.as_ref();
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    text.trim()
        .parse()
        .with_context(|| format!("no number in {}: {text:?}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_children_than_pids_are_refused_before_anything_is_forked() {
        let error = check_processes(u64::from(u32::MAX)).expect_err("no machine has that many");
        assert!(error.to_string().contains("too many"), "{error}");
    }

    #[test]
    fn a_child_is_not_too_many() {
        check_processes(1).expect("tests run with room for one process");
    }
}
