//! The limits of a leaf, the controllers that they need, and the files that hold them.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use super::error::CgroupError;
use super::files;

/// The limits of each child of a [`CgroupPool`](crate::CgroupPool), together with all its
/// descendants.
///
/// Without a limit no controller is needed, and any delegated cgroup does.
///
/// ```
/// use exitring::CgroupLimits;
///
/// let limits = CgroupLimits::new()
///     .memory(512 << 20)
///     .processes(100)
///     .cpus(1.5);
/// # let _ = limits;
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CgroupLimits {
    memory: Option<u64>,
    processes: Option<u64>,
    cpus: Option<f64>,
    peak_memory: bool,
}

/// The value of a file of a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    file: &'static str,
    value: String,
    /// Whether the kernel may lack the file.
    optional: bool,
}

impl CgroupLimits {
    /// No limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// The memory in bytes (`memory.max`), of which none may be swap (`memory.swap.max` is 0).
    ///
    /// The kernel rounds it down to whole pages. It counts anonymous memory, the page cache of the
    /// files that the child reads and writes, `tmpfs`, and kernel memory. If the child needs more
    /// and no page cache can be freed, the kernel kills a process of the leaf.
    ///
    /// Where the kernel does not account swap per group (`CONFIG_SWAP` off, `swapaccount=0`),
    /// `memory.swap.max` does not exist. There the limit applies to memory alone, and a child may
    /// use swap beyond it.
    ///
    /// Needs the controller `memory`.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// The number of processes and threads at a time (`pids.max`).
    ///
    /// Beyond it `fork` fails with `EAGAIN` in the child. Needs the controller `pids`.
    pub fn processes(mut self, count: u64) -> Self {
        self.processes = Some(count);
        self
    }

    /// The CPU time as a number of CPUs, such as 0.5 or 2 (`cpu.max` with a period of 100 ms).
    ///
    /// The kernel's minimum is 0.01. Needs the controller `cpu`.
    pub fn cpus(mut self, count: f64) -> Self {
        self.cpus = Some(count);
        self
    }

    /// Enables the controller `memory` without a limit, so that
    /// [`CgroupReport::peak_memory`](crate::CgroupReport::peak_memory) and
    /// [`oom_kills`](crate::CgroupReport::oom_kills) are known. [`memory`](Self::memory) does so as
    /// well.
    pub fn peak_memory(mut self, wanted: bool) -> Self {
        self.peak_memory = wanted;
        self
    }

    /// Whether leaves need the controller memory.
    ///
    /// Such a leaf serves one child only. Its peak cannot be reset (from Linux 6.12 on it can, but
    /// only for one open descriptor), and the page cache and `tmpfs` files of an earlier child would
    /// count against the limit of a later one.
    pub(super) fn uses_memory(&self) -> bool {
        self.memory.is_some() || self.peak_memory
    }

    /// The controllers that the limits need.
    pub(super) fn controllers(&self) -> Vec<&'static str> {
        let needed = [
            ("memory", self.uses_memory()),
            ("pids", self.processes.is_some()),
            ("cpu", self.cpus.is_some()),
        ];
        let needed = needed.into_iter().filter(|(_, needed)| *needed);
        needed.map(|(name, _)| name).collect()
    }

    /// The files to write in each new leaf.
    ///
    /// # Errors
    ///
    /// `LimitRefused` for a value with which nothing could run, or that is no number.
    pub(super) fn settings(&self) -> Result<Vec<Setting>, CgroupError> {
        let mut settings = Vec::new();
        let mut add = |file, value, optional| {
            settings.push(Setting {
                file,
                value,
                optional,
            });
        };
        if let Some(bytes) = self.memory {
            check(bytes > 0, "memory.max", bytes)?;
            add("memory.max", bytes.to_string(), false);
            add("memory.swap.max", "0".into(), true);
        }
        if let Some(count) = self.processes {
            check(count > 0, "pids.max", count)?;
            add("pids.max", count.to_string(), false);
        }
        if let Some(count) = self.cpus {
            check(count.is_finite() && count > 0.0, "cpu.max", count)?;
            // A value that is too large saturates, and the kernel refuses it.
            let quota = (count * CPU_PERIOD as f64).round() as u64;
            add("cpu.max", format!("{quota} {CPU_PERIOD}"), false);
        }
        Ok(settings)
    }
}

/// The period of `cpu.max` in microseconds, which is the kernel's default.
const CPU_PERIOD: u64 = 100_000;

fn check(valid: bool, file: &'static str, value: impl ToString) -> Result<(), CgroupError> {
    match valid {
        true => Ok(()),
        false => Err(CgroupError::LimitRefused {
            file,
            value: value.to_string(),
            source: io::Error::new(
                io::ErrorKind::InvalidInput,
                "a limit is a number above zero",
            ),
        }),
    }
}

impl Setting {
    /// Writes the value in the group `leaf` of the directory.
    pub(super) fn apply(&self, dir: impl AsFd, leaf: &Path) -> Result<(), CgroupError> {
        match files::write(dir, &leaf.join(self.file), &self.value) {
            Ok(()) => Ok(()),
            Err(error) if self.optional && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(source) => match CgroupError::from_call("write", &leaf.join(self.file), source) {
                CgroupError::System(error) => Err(CgroupError::LimitRefused {
                    file: self.file,
                    value: self.value.clone(),
                    source: error.source,
                }),
                other => Err(other),
            },
        }
    }
}
