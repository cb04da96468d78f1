//! What a process holds.

use std::fs;

use anyhow::{Context, Result};
use exitring::Pid;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The place of this process, or of another, in `/proc`.
fn place(pid: Option<Pid>, file: &str) -> String {
    match pid {
        Some(pid) => format!("/proc/{}/{file}", pid),
        None => format!("/proc/self/{file}"),
    }
}

pub(crate) fn open_descriptors(pid: Option<Pid>) -> Result<u64> {
    let place = place(pid, "fd");
    let open = fs::read_dir(&place).with_context(|| format!("reading {place}"))?;
    // Of our own, one is the directory itself.
    Ok((open.count() as u64).saturating_sub(u64::from(pid.is_none())))
}

/// Anonymous memory that is resident: heap and stacks, without code and what is shared (`proc(5)`).
pub(crate) fn anonymous_bytes(pid: Option<Pid>) -> Result<u64> {
    let place = place(pid, "status");
    let status = fs::read_to_string(&place).with_context(|| format!("reading {place}"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("no RssAnon in {place}"))? * 1024)
}

/// As many descriptors as we may have without asking anybody.
pub(crate) fn raise_descriptor_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("raising RLIMIT_NOFILE to its hard limit")
}
