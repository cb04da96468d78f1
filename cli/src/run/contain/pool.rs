//! The pool of cgroups for jobs.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use exitring::{Cgroup, CgroupError, CgroupLimits, CgroupPool};

use super::options::ContainOptions;
use crate::failure::{Failure, chain};
use crate::init;

/// How many cgroups are made before the first job starts. With a larger `-j` the others are made
/// when jobs need them.
const MADE_AHEAD: usize = 1024;
/// Cgroups beyond those of running jobs, whose killed processes have not all ended yet.
const LEAVING: usize = 1024;
/// The library's default of `CgroupPool::set_max_leaves`.
const DEFAULT_MAX: usize = 32_768;
/// How long the end of a run waits for killed processes. The kernel takes longer only for one that
/// cannot be interrupted.
const END_WAIT: Duration = Duration::from_secs(1);
const END_CHECK: Duration = Duration::from_millis(2);

/// What a user can do about a group that cannot be used.
const SCOPE: &str = "give the run a cgroup of its own: systemd-run --user --scope -p Delegate=yes \
                     exitring run ...; `exitring doctor` shows what this machine allows";

/// Makes the pool, if jobs are to be contained. `jobs` is how many run at a time, and `jobs_max` how
/// many may later. The caller must not have started a job yet.
pub(crate) fn open(
    options: &ContainOptions,
    jobs: usize,
    jobs_max: usize,
) -> Result<Option<CgroupPool>, Failure> {
    let Some(limits) = options.limits() else {
        return Ok(None);
    };
    let pool = make(&limits).map_err(|error| cannot_contain(&error))?;
    pool.set_max_leaves((jobs_max + LEAVING).max(DEFAULT_MAX));
    match pool.prepare(jobs.min(MADE_AHEAD)) {
        // Fewer jobs run at a time then, which is reported.
        Err(error) if error.is_throttling() => {}
        prepared => prepared.map_err(|error| cannot_contain(&error))?,
    }
    Ok(Some(pool))
}

fn make(limits: &CgroupLimits) -> Result<CgroupPool, CgroupError> {
    let group = Cgroup::find()?;
    match group.pool(limits) {
        // With a limit the group may hold no process. The one that is always there is this one. It
        // moves out of the way only where it must: that is not the case without limits, in the root
        // group, and where controllers are enabled already.
        Err(CgroupError::HasProcesses {
            includes_self: true,
            ..
        }) => {
            group.enter_leaf()?;
            if init::is_running() {
                take_init_along();
            }
            group.pool(limits)
        }
        made => made,
    }
}

/// Moves process 1 of a container, which is this program as well, to the group of this process.
fn take_init_along() {
    if let Ok(own) = Cgroup::find() {
        // If it cannot be moved, the pool reports that the group has a process.
        let _ = fs::write(own.path().join("cgroup.procs"), "1");
    }
}

fn cannot_contain(error: &CgroupError) -> Failure {
    let cause = match error {
        CgroupError::HasProcesses {
            path, processes, ..
        } => format!(
            "limits need a cgroup without other processes, and {} holds {processes}",
            path.display()
        ),
        CgroupError::NoController { controller, path } => format!(
            "the limit needs the controller {controller}, which {} does not have",
            path.display()
        ),
        CgroupError::NotDelegated { path, source } => format!(
            "the cgroup of this process is not delegated to this user ({}: {source})",
            path.display()
        ),
        error => chain(error),
    };
    let cause = format!("jobs cannot be contained: {cause}");
    match error {
        CgroupError::LimitRefused { .. } => Failure::usage(cause),
        CgroupError::NotDelegated { source, .. } if source.raw_os_error() == Some(libc::EROFS) => {
            Failure::resource(cause).remedy(
                "cgroups are mounted read-only here: run the container with a writable cgroup",
            )
        }
        // With cgroups of version 1 beside version 2, the controllers may be in version 1.
        CgroupError::NoController { controller, .. } => Failure::resource(cause).remedy(format!(
            "{SCOPE}; the controller must be one of cgroup v2 (grep {controller} \
             /sys/fs/cgroup/cgroup.controllers)"
        )),
        CgroupError::HasProcesses { .. }
        | CgroupError::NotDelegated { .. }
        | CgroupError::Threaded { .. } => Failure::resource(cause).remedy(SCOPE),
        // The message of the library says what can be done.
        _ => Failure::resource(cause),
    }
}

/// Waits until the processes that were killed in the groups have ended, so that nothing of the jobs
/// is left when the run has ended, and the groups can be removed.
pub(crate) fn wait_until_empty(pool: &CgroupPool) {
    // It counts the processes of all groups of the pool.
    let events = pool.path().join("cgroup.events");
    let until = Instant::now() + END_WAIT;
    let is_populated =
        || fs::read_to_string(&events).is_ok_and(|text| text.contains("populated 1"));
    while is_populated() && Instant::now() < until {
        thread::sleep(END_CHECK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(error: &CgroupError) -> (u8, String) {
        let failure = cannot_contain(error);
        (failure.code(), failure.to_lines())
    }

    #[test]
    fn errors_name_the_remedy() {
        let path = || "/sys/fs/cgroup/x".into();
        let denied = |errno| CgroupError::NotDelegated {
            path: path(),
            source: std::io::Error::from_raw_os_error(errno),
        };
        let missing = CgroupError::NoController {
            controller: "memory",
            path: path(),
        };
        let occupied = CgroupError::HasProcesses {
            path: path(),
            processes: 3,
            includes_self: false,
        };
        for error in [&denied(libc::EACCES), &missing, &occupied] {
            let (code, text) = text(error);
            assert_eq!(code, crate::code::RESOURCE);
            assert!(text.contains("-p Delegate=yes exitring run"), "{text}");
            assert!(text.contains("/sys/fs/cgroup/x"), "{text}");
        }
        let (_, read_only) = text(&denied(libc::EROFS));
        assert!(read_only.contains("read-only"), "{read_only}");
        let refused = CgroupError::LimitRefused {
            file: "pids.max",
            value: "99999999999".into(),
            source: std::io::Error::from_raw_os_error(libc::EINVAL),
        };
        assert_eq!(text(&refused).0, crate::code::USAGE);
    }
}
