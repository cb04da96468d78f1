//! On what a measurement was made.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Resource, getrlimit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Environment {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    /// Soft and hard limit on descriptors (`ulimit -n`).
    pub(crate) nofile: Option<u64>,
    pub(crate) nofile_hard: Option<u64>,
    /// Soft limit on processes (`ulimit -u`).
    pub(crate) nproc: Option<u64>,
    pub(crate) pid_max: Option<u64>,
    /// What exitring waits with here, or why it does not.
    pub(crate) backend: String,
    /// How the load generator was built.
    pub(crate) build: String,
    /// Of exitring and of those it is compared with.
    pub(crate) versions: BTreeMap<String, String>,
}

impl Environment {
    pub(crate) fn read() -> Self {
        let uname = rustix::system::uname();
        let memory = rustix::system::sysinfo();
        let nofile = getrlimit(Resource::Nofile);
        Self {
            kernel: uname.release().to_string_lossy().into_owned(),
            cpu: cpu_model().unwrap_or_else(|| uname.machine().to_string_lossy().into_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory.totalram * u64::from(memory.mem_unit),
            nofile: nofile.current,
            nofile_hard: nofile.maximum,
            nproc: getrlimit(Resource::Nproc).current,
            pid_max: fs::read_to_string("/proc/sys/kernel/pid_max")
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            backend: match exitring::Watcher::new() {
                Ok(watcher) => watcher.stats().backend.into(),
                Err(error) => error.to_string(),
            },
            build: format!(
                "{}, {}",
                if cfg!(debug_assertions) {
                    "debug: not for measuring"
                } else {
                    "release"
                },
                std::env::consts::ARCH
            ),
            versions: versions(include_str!("../../Cargo.lock")),
        }
    }
}

fn cpu_model() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Of the packages that matter, as they were locked at the build.
fn versions(lock: &str) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let mut name = "";
    for line in lock.lines() {
        let value = |key: &str| {
            line.strip_prefix(key)?
                .strip_prefix(" = \"")?
                .strip_suffix('"')
        };
        if let Some(value) = value("name") {
            name = value;
        }
        let matters = ["exitring", "io-uring", "tokio", "async-process"].contains(&name);
        if let Some(version) = value("version").filter(|_| matters) {
            versions.insert(name.to_owned(), version.to_owned());
        }
    }
    versions
}
