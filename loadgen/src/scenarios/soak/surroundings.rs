//! What the commands of a soak are made from: the programs, and what this process may do.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use exitring::{Cgroup, CgroupError, CgroupLimits, CgroupPool, Command, Environment, Watcher};
use rustix::process::{Resource, getpgrp, getpriority_process, getrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};
use tempfile::TempDir;

use crate::measure::program::Program;

/// A user and groups other than those of this process; they need not exist.
pub(super) const OTHER_USER: u32 = 65_534;
pub(super) const OTHER_GROUPS: [u32; 2] = [65_531, 65_532];

pub(super) struct Surroundings {
    pub(super) exits: Arc<Program>,
    pub(super) writes: Arc<Program>,
    /// A program that every user may execute.
    pub(super) succeeds: Arc<Program>,
    /// A script whose interpreter does not exist.
    pub(super) no_interpreter: PathBuf,
    pub(super) null: OwnedFd,
    pub(super) environment: Environment,
    /// A variable of this process's environment that no shell sets itself.
    pub(super) variable: Option<OsString>,
    pub(super) cpus: Vec<usize>,
    pub(super) nice: i32,
    pub(super) oom_score_adj: i16,
    pub(super) max_files: u64,
    pub(super) group: i32,
    pub(super) may_change_user: bool,
    pub(super) pool: Result<CgroupPool, CgroupError>,
    /// Holds the script.
    _directory: TempDir,
}

impl Surroundings {
    /// Writes the programs, and tries what this process may do.
    pub(super) fn new() -> Result<Self> {
        let directory = TempDir::with_prefix("loadgen-soak-").context("creating a directory")?;
        let no_interpreter = directory.path().join("script");
        let mut script = OpenOptions::new();
        let script = script.write(true).create_new(true).mode(0o755);
        script
            .open(&no_interpreter)
            .and_then(|mut file| file.write_all(b"#!/no/such/interpreter\n"))
            .with_context(|| format!("writing {}", no_interpreter.display()))?;
        let oom_score_adj = fs::read_to_string("/proc/self/oom_score_adj");
        let oom_score_adj = oom_score_adj.context("reading oom_score_adj")?;
        let null = File::open("/dev/null").context("opening /dev/null")?;
        let cpus = sched_getaffinity(None).context("reading the CPU affinity")?;
        Ok(Self {
            exits: Program::that_exits(None)?,
            writes: Program::that_writes()?,
            succeeds: Program::that_exits(Some(Path::new("true")))?,
            no_interpreter,
            null: null.into(),
            environment: Environment::current(),
            variable: plain_variable(),
            cpus: (0..CpuSet::MAX_CPU)
                .filter(|cpu| cpus.is_set(*cpu))
                .collect(),
            nice: getpriority_process(None).context("reading the nice value")?,
            oom_score_adj: oom_score_adj.trim().parse()?,
            max_files: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
            group: getpgrp().as_raw_nonzero().get(),
            may_change_user: may_change_user()?,
            pool: Cgroup::find().and_then(|group| group.pool(&CgroupLimits::new())),
            _directory: directory,
        })
    }
}

/// Tries it. Root of a user namespace may lack the mapping of other users.
fn may_change_user() -> Result<bool> {
    let watcher = Watcher::new().context("building a watcher")?;
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "exit 0"])
        .current_dir("/")
        .uid(OTHER_USER)
        .gid(OTHER_USER)
        .groups(OTHER_GROUPS);
    Ok(match watcher.spawn(&mut command) {
        Ok(child) => child.wait()?.success(),
        Err(_) => false,
    })
}

fn plain_variable() -> Option<OsString> {
    let of_shells = ["_", "HOME", "IFS", "MAIL", "OLDPWD", "PATH", "PPID", "PWD"];
    let is_plain = |name: &str| {
        let upper = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
        let shell = name.starts_with("SH") || name.starts_with("PS") || name.starts_with("OPT");
        name.bytes().all(upper) && !of_shells.contains(&name) && !shell && name != "TERM"
    };
    let mut names = env::vars_os().map(|(name, _)| name);
    names.find(|name| name.to_str().is_some_and(is_plain))
}
