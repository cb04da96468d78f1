//! On what a measurement was made.

use std::fs;

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Environment {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// Soft limit on descriptors.
    pub(crate) nofile: Option<u64>,
    pub(crate) pid_max: Option<u64>,
    pub(crate) exitring: &'static str,
}

impl Environment {
    pub(crate) fn read() -> Self {
        let uname = rustix::system::uname();
        Self {
            kernel: uname.release().to_string_lossy().into_owned(),
            cpu: cpu_model().unwrap_or_else(|| uname.machine().to_string_lossy().into_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            nofile: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            pid_max: fs::read_to_string("/proc/sys/kernel/pid_max")
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            exitring: env!("CARGO_PKG_VERSION"),
        }
    }
}

fn cpu_model() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
