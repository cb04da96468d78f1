//! Each error says what to do, and does not repeat the message of its source.

use std::error::Error;
use std::io;

use super::*;
use crate::error::{NoDescriptors, SystemError};

#[test]
fn each_message_names_the_cause_and_not_its_source() {
    let path = || PathBuf::from("/sys/fs/cgroup/x");
    let source = || io::Error::from_raw_os_error(libc::EIO);
    let errno = io::Error::from_raw_os_error;
    let not_delegated = |number| CgroupError::NotDelegated {
        path: path(),
        source: errno(number),
    };
    let has_processes = |includes_self| CgroupError::HasProcesses {
        path: path(),
        processes: 3,
        includes_self,
    };
    let errors = [
        (CgroupError::NotMounted, "mount -t cgroup2"),
        (
            CgroupError::NotVisible { group: path() },
            "--cgroupns=private",
        ),
        (CgroupError::Version1 { path: path() }, "cgroup2"),
        (CgroupError::NotACgroup { path: path() }, "cgroup2"),
        (CgroupError::Missing { path: path() }, "removed meanwhile"),
        (not_delegated(libc::EACCES), "Delegate=yes"),
        (not_delegated(libc::EROFS), "read-only"),
        (
            CgroupError::NoController {
                controller: "cpu",
                path: path(),
            },
            "controller cpu",
        ),
        (has_processes(true), "enter_leaf"),
        (has_processes(false), "Cgroup::at"),
        (
            CgroupError::LimitRefused {
                file: "pids.max",
                value: "0".into(),
                source: source(),
            },
            "pids.max",
        ),
        (
            CgroupError::TooManyGroups { path: path() },
            "cgroup.max.descendants",
        ),
        (
            CgroupError::PoolFull {
                max: 7,
                with_leftovers: 2,
            },
            "set_max_leaves",
        ),
        (
            CgroupError::ControllersEnabled { path: path() },
            "controllers are enabled",
        ),
        (CgroupError::Threaded { path: path() }, "cgroup.type"),
        (CgroupError::StillForking { path: path() }, "Linux 5.14"),
        (CgroupError::ForkedChild, "make one here"),
        (
            CgroupError::NoDescriptors(NoDescriptors::Machine),
            "fs.file-max",
        ),
        (CgroupError::OutOfMemory, "memory"),
        (
            CgroupError::System(SystemError {
                call: "mkdir",
                source: source(),
            }),
            "mkdir",
        ),
    ];
    for (error, words) in errors {
        let text = error.to_string();
        assert!(text.contains(words), "{text}");
        if let Some(source) = error.source() {
            assert!(!text.contains(&source.to_string()), "{text}");
        }
    }
}
