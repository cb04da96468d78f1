//! The group of this process in a cgroup namespace, as in containers.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{fs, io};

use exitring::{Cgroup, CgroupError, CgroupLimits};

use crate::common::*;
use crate::test_group::*;
use crate::users::in_forked_child;

fn path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path without a zero byte")
}

/// Mounts at a directory, in a mount namespace of this process.
fn mount(source: &Path, file_system: &str, directory: &Path, flags: libc::c_ulong) {
    let file_system = CString::new(file_system).unwrap();
    let (source, directory) = (path(source), path(directory));
    // SAFETY: all pointers are to live C strings, or null.
    let result = unsafe {
        libc::mount(
            source.as_ptr(),
            directory.as_ptr(),
            file_system.as_ptr(),
            flags,
            std::ptr::null(),
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// Starts a new mount namespace for this process. Whether that is permitted.
fn unshare_mounts() -> bool {
    // SAFETY: no pointers.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        eprintln!("not tested: {}", io::Error::last_os_error());
        return false;
    }
    mount(
        Path::new("none"),
        "",
        Path::new("/"),
        libc::MS_REC | libc::MS_PRIVATE,
    );
    true
}

#[test]
fn the_group_is_found_in_a_cgroup_namespace_once_its_mount_shows_it() {
    if !in_own_process() {
        let test = "namespaces::the_group_is_found_in_a_cgroup_namespace_once_its_mount_shows_it";
        return run_in_own_process(test, |_| ());
    }
    let Some(group) = TestGroup::new() else {
        return;
    };
    let directory = std::env::temp_dir().join(format!("exitring-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let _remove = OnDrop(|| drop(fs::remove_dir(&directory)));
    in_forked_child(|| {
        group.write("cgroup.procs", "0");
        // SAFETY: no pointers.
        if !unshare_mounts() || unsafe { libc::unshare(libc::CLONE_NEWCGROUP) } != 0 {
            return;
        }
        // The mounts show groups above the root of the namespace, and no path leads from there to
        // the group, which is `/`.
        match Cgroup::find() {
            Err(error @ CgroupError::NotVisible { .. }) => {
                assert!(error.to_string().contains("--cgroupns=private"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        mount(Path::new("none"), "cgroup2", &directory, 0);
        let found = Cgroup::find().unwrap();
        assert_eq!(found.path(), directory);
        let pool = found.pool(&CgroupLimits::new()).unwrap();
        let leaf = pool.acquire().unwrap();
        assert!(leaf.path().starts_with(&directory));
        run_to_end(&leaf, "true");
        drop((leaf, pool));
    });
}

/// As in a container without a cgroup namespace, whose group alone is mounted.
#[test]
fn the_group_is_found_where_only_a_part_of_the_hierarchy_is_mounted() {
    if !in_own_process() {
        let test = "namespaces::the_group_is_found_where_only_a_part_of_the_hierarchy_is_mounted";
        return run_in_own_process(test, |_| ());
    }
    let Some(group) = TestGroup::new() else {
        return;
    };
    let whole = group.path.parent().unwrap();
    in_forked_child(|| {
        group.write("cgroup.procs", "0");
        if !unshare_mounts() {
            return;
        }
        mount(&group.path, "", whole, libc::MS_BIND);
        let found = Cgroup::find().unwrap();
        assert_eq!(found.path(), whole);
        drop(found.pool(&CgroupLimits::new()).unwrap());

        // Covered by a read-only mount of the same group.
        mount(
            Path::new("none"),
            "",
            whole,
            libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY,
        );
        match Cgroup::find().unwrap().pool(&CgroupLimits::new()) {
            Err(error @ CgroupError::NotDelegated { .. }) => {
                assert!(error.to_string().contains("read-only"), "{error}");
            }
            other => panic!("{other:?}"),
        }

        // Covered by another file system.
        mount(Path::new("none"), "tmpfs", whole, 0);
        let found = Cgroup::find();
        assert!(
            matches!(found, Err(CgroupError::NotACgroup { .. })),
            "{found:?}"
        );
    });
}
