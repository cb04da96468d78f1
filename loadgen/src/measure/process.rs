//! The descriptors, the memory, the context switches and the children of a process.

use std::fs;
use std::io;
use std::mem::MaybeUninit;

use anyhow::{Context, Result, ensure};
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

/// Voluntary and involuntary context switches of this process, or of the threads that another
/// process has now.
pub(crate) fn context_switches(pid: Option<Pid>) -> Result<u64> {
    if pid.is_none() {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the pointer is to a live rusage.
        let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
        ensure!(result == 0, "getrusage: {}", io::Error::last_os_error());
        // SAFETY: a zeroed rusage is valid.
        let usage = unsafe { usage.assume_init() };
        return Ok((usage.ru_nvcsw + usage.ru_nivcsw) as u64);
    }
    let path = proc_path(pid, "task");
    let threads = fs::read_dir(&path).with_context(|| format!("reading {path}"))?;
    let of_thread = |status: String| -> u64 {
        let lines = status.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            let known = name.ends_with("voluntary_ctxt_switches");
            known.then(|| value.trim().parse::<u64>().ok()).flatten()
        });
        lines.sum()
    };
    // A thread that ends meanwhile has no status any more.
    let statuses =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok());
    Ok(statuses.map(of_thread).sum())
}

/// The children of this process, and whether each has ended and is not reaped.
pub(crate) fn children() -> Result<Vec<(Pid, bool)>> {
    let own = std::process::id().to_string();
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let entry = entry?;
        // The process may end meanwhile. Other entries are no processes.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // The name before may have blanks and brackets.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let mut fields = fields.split_whitespace();
        let (state, parent) = (fields.next(), fields.next());
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|_| parent == Some(own.as_str())) {
            children.push((Pid::new(number)?, matches!(state, Some("Z" | "X"))));
        }
    }
    Ok(children)
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
