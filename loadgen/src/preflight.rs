//! Checks that the machine has the processes and descriptors for a run, before the first fork.

use anyhow::{Result, bail};
use exitring::limits::{self, Source};

/// Processes that are left to the rest of the machine.
const RESERVE: u64 = 64;

/// Fails with the limit that is in the way if `children` more processes cannot be had.
pub(crate) fn check_processes(children: u64) -> Result<()> {
    for limit in limits::processes() {
        let free = limit.free().saturating_sub(RESERVE);
        if children > free {
            bail!(
                "{children} children are too many for this machine: {} is {}, of which {} are in use; \
                 at most {free} can be had",
                name(&limit.source),
                limit.max,
                limit.used,
            );
        }
    }
    Ok(())
}

/// Fails if one process cannot have so many descriptors.
pub(crate) fn check_descriptors(descriptors: u64) -> Result<()> {
    match limits::descriptors().hard {
        Some(hard) if descriptors > hard => {
            bail!(
                "needs {descriptors} descriptors, one for each child, and RLIMIT_NOFILE (ulimit -n) allows {hard}"
            )
        }
        _ => Ok(()),
    }
}

fn name(source: &Source) -> String {
    match source {
        Source::PidMax | Source::ThreadsMax => format!("the sysctl {source}"),
        Source::UserProcesses => format!("{source} (ulimit -u)"),
        Source::Cgroup { .. } => format!("the cgroup's {source}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_children_than_pids_are_refused_before_the_first_fork() {
        let error = check_processes(u64::from(u32::MAX)).expect_err("no machine has that many");
        assert!(error.to_string().contains("too many"), "{error}");
    }

    #[test]
    fn one_child_is_not_too_many() {
        check_processes(1).expect("the machine that runs tests has a process to spare");
    }
}
