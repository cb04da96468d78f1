//! The descriptors and the memory of a process.

use std::fs;

use anyhow::{Context, Result};
use exitring::Pid;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The path of a file of this or another process in `/proc`.
fn proc_path(pid: Option<Pid>, file: &str) -> String {
    match pid {
        Some(pid) => format!("/proc/{}/{file}", pid),
        None => format!("/proc/self/{file}"),
    }
}

pub(crate) fn open_descriptors(pid: Option<Pid>) -> Result<u64> {
    let path = proc_path(pid, "fd");
    let open = fs::read_dir(&path).with_context(|| format!("reading {path}"))?;
    // One of this process is the directory that is being read.
    Ok((open.count() as u64).saturating_sub(u64::from(pid.is_none())))
}

/// Resident anonymous memory: heap and stacks, without code and shared memory (`proc(5)`).
pub(crate) fn anonymous_bytes(pid: Option<Pid>) -> Result<u64> {
    let path = proc_path(pid, "status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("there is no RssAnon in {path}"))? * 1024)
}

/// Raises the soft limit on descriptors to the hard limit, which needs no privilege.
pub(crate) fn raise_descriptor_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("raising RLIMIT_NOFILE to its hard limit")
}
