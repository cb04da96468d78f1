//! Each call on a cgroup that can fail fails in turn: the error names the cause, and nothing is
//! left behind.

use super::*;
use crate::faults::{Plan, set_plan};
use std::sync::Arc;

/// Makes a pool and uses it. Returns whether all that a report needs could be read.
fn exercise(group: &Cgroup) -> Result<bool, CgroupError> {
    let pool = group.pool(&CgroupLimits::new())?;
    pool.prepare(3)?;
    let leaves: Result<Vec<_>, _> = (0..4).map(|_| pool.acquire()).collect();
    let leaves = leaves?;
    fs::create_dir(leaves[0].path().join("a")).expect("it exists");
    let opened = leaves[1].open_dir().and(leaves[1].open_procs()).map(drop);
    let report = leaves[1].report();
    assert_eq!(report.leftover_count(), 0);
    let populated = leaves[2].is_populated();
    let killed = leaves[3].kill();
    drop(leaves);
    let error = |error: std::io::Error| CgroupError::from_call("open", Path::new("leaf"), error);
    opened.map_err(error)?;
    assert!(!populated?);
    killed?;
    drop(pool.acquire()?);
    Ok(report.is_complete())
}

#[test]
fn an_error_names_its_cause_and_nothing_is_left_behind() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let is_throttling = |error: &CgroupError| error.is_throttling();
    let is_denied = |error: &CgroupError| matches!(error, CgroupError::NotDelegated { .. });
    let is_system = |error: &CgroupError| matches!(error, CgroupError::System(_));
    let is_missing = |error: &CgroupError| matches!(error, CgroupError::Missing { .. });
    type Check = fn(&CgroupError) -> bool;
    let cases: [(&str, i32, Check); 10] = [
        ("cgroup_open", libc::EMFILE, is_throttling),
        ("cgroup_open", libc::ENFILE, is_throttling),
        ("cgroup_open", libc::ENOMEM, is_throttling),
        ("cgroup_open", libc::EACCES, is_denied),
        ("cgroup_open", libc::EIO, is_system),
        ("cgroup_mkdir", libc::EAGAIN, is_throttling),
        ("cgroup_mkdir", libc::ENOSPC, is_throttling),
        ("cgroup_mkdir", libc::ENOMEM, is_throttling),
        ("cgroup_mkdir", libc::EROFS, is_denied),
        ("cgroup_mkdir", libc::ENOENT, is_missing),
    ];
    let cgroup = group.cgroup();
    for (call, errno, is_expected) in cases {
        let mut failures = 0;
        for after in 0..40 {
            for times in [1, 3, u32::MAX] {
                let plan = Arc::new(Plan {
                    call,
                    errno,
                    after: AtomicU32::new(after),
                    times: AtomicU32::new(times),
                    failures: AtomicU32::new(0),
                });
                set_plan(Some(Arc::clone(&plan)));
                let result = exercise(&cgroup);
                set_plan(None);
                failures += plan.failures.load(Ordering::Relaxed);
                if let Err(error) = result {
                    assert!(is_expected(&error), "{call}, {errno}, {after}: {error:?}");
                }
                // A group of the child that could not be removed for lack of a descriptor is
                // removed by the next pool, or by a later one if another test has just forked: its
                // child has a copy of the lock until it executes a program.
                until(
                    &format!("nothing is left: {call}, {errno}, {after}"),
                    || {
                        drop(group.pool());
                        let left = tree::sub_groups(rustix::fs::CWD, &group.0, 100);
                        left.expect("the group exists").is_empty()
                    },
                );
            }
        }
        assert!(failures > 0, "{call} is not called");
    }
    assert!(exercise(&cgroup).expect("nothing fails"));
}
