//! Reads the environment of a measurement.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Resource, getrlimit};

use crate::types::environment::Environment;

pub(crate) fn read() -> Environment {
    let uname = rustix::system::uname();
    let memory = rustix::system::sysinfo();
    let nofile = getrlimit(Resource::Nofile);
    Environment {
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
                "debug: not for measurements"
            } else {
                "release"
            },
            std::env::consts::ARCH
        ),
        versions: versions(include_str!("../../../Cargo.lock")),
    }
}

fn cpu_model() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The versions of the compared packages in the lock file of the build.
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
