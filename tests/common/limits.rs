//! The limit of descriptors, the descriptors in use, and the kernel's version.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The number of descriptors that this process has open.
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("proc is mounted")
        .count()
        - 1
}

/// Opens every descriptor that this process may have.
pub fn take_all_descriptors() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// A new descriptor for the standard input, if one can be opened.
pub fn duplicate_stdin() -> Option<OwnedFd> {
    std::io::stdin().as_fd().try_clone_to_owned().ok()
}

/// Makes the command run with 64 descriptors, and no way to raise the limit.
pub fn lower_descriptor_limit(command: &mut Command) {
    // SAFETY: setrlimit is a bare system call.
    unsafe { command.pre_exec(|| Ok(set_limit(Resource::Nofile, 64, 64)?)) };
}

/// Sets the soft and the hard limit of descriptors of this process.
pub fn limit_descriptors(count: u64) {
    set_limit(Resource::Nofile, count, count).expect("the limit can be lowered");
}

/// Sets a limit of this process. Async-signal-safe.
pub fn set_limit(resource: Resource, soft: u64, hard: u64) -> rustix::io::Result<()> {
    let limit = Rlimit {
        current: Some(soft),
        maximum: Some(hard),
    };
    setrlimit(resource, limit)
}

/// The hard limit of descriptors of this process.
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Whether a test may expect what this version of Linux introduced. The library itself does not
/// check the version.
pub fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("proc is mounted");
    let mut numbers = release.split(['.', '-']).map(|part| part.trim().parse());
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next()) >= (major, minor)
}
