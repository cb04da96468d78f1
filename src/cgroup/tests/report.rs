//! What a leaf reports about its child.

use super::*;

#[test]
fn a_child_that_leaves_nothing_has_an_empty_report() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let leaf = pool.acquire().expect("a leaf");
    assert_eq!(leaf.report(), CgroupReport::default());
    run_to_end(&leaf.path(), "true");
    let report = leaf.report();
    assert_eq!((report.leftover(), report.leftover_count()), (&[][..], 0));
    assert_eq!((report.peak_memory(), report.oom_kills()), (None, None));
    assert!(report.is_complete());
}

#[test]
fn a_zombie_is_no_leftover_process() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let leaf = pool.acquire().expect("a leaf");
    let mut child = run_in(&leaf.path(), "exit 3");
    until("only a zombie is left", || {
        leaf.report().leftover_count() == 0
    });
    let pid = child.id().to_string();
    let procs = fs::read_to_string(leaf.path().join("cgroup.procs")).expect("it exists");
    assert!(!procs.contains(&pid), "{procs}");
    assert_eq!(child.wait().expect("it is a child").code(), Some(3));
}

#[test]
fn leftover_processes_are_listed_and_counted_in_groups_of_the_child_too() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let leaf = pool.acquire().expect("a leaf");
    let script = "for i in $(seq 20); do sleep 1000 & done; mkdir -p $GROUP/a/b; \
                  sh -c 'echo $$ >$GROUP/a/b/cgroup.procs; exec sleep 1000' & \
                  until grep -q . $GROUP/a/b/cgroup.procs; do sleep 0.01; done";
    run_to_end(&leaf.path(), script);
    let report = leaf.report();
    assert_eq!(report.leftover_count(), 21);
    assert_eq!(report.leftover().len(), 21);
    for pid in report.leftover() {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
        let name = leaf.path();
        let name = name.strip_prefix(&group.0).expect("it is in there");
        assert!(cgroup.contains(&*name.to_string_lossy()), "{cgroup}");
    }
    run_to_end(&leaf.path(), "for i in $(seq 100); do sleep 1000 & done");
    let report = leaf.report();
    assert_eq!(report.leftover_count(), 121);
    assert_eq!(report.leftover().len(), 64);
    leaf.kill().expect("it can be killed");
    until_empty(&leaf);
    assert_eq!(leaf.report().leftover_count(), 0);
}

/// `cgroup.procs` of a threaded group cannot be read.
#[test]
fn a_process_with_threads_in_a_threaded_group_is_counted_once() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let leaf = pool.acquire().expect("a leaf");
    let script = "mkdir $GROUP/a && echo threaded >$GROUP/a/cgroup.type && \
                  (sh -c 'echo $$ >$GROUP/a/cgroup.threads; exec sleep 1000' &) && \
                  until grep -q . $GROUP/a/cgroup.threads; do sleep 0.01; done";
    run_to_end(&leaf.path(), script);
    let report = leaf.report();
    assert_eq!(report.leftover_count(), 1);
    assert!(report.is_complete());
    leaf.kill().expect("it can be killed");
    until_empty(&leaf);
}

#[test]
fn a_leaf_that_was_removed_held_no_process() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let leaf = pool.acquire().expect("a leaf");
    fs::remove_dir(leaf.path()).expect("it is empty");
    assert_eq!(leaf.report(), CgroupReport::default());
}

#[test]
fn peak_memory_and_oom_kills_are_those_of_the_child_alone() {
    let Some(group) = TestGroup::with_controllers() else {
        return;
    };
    let limits = CgroupLimits::new().memory(40 << 20);
    let pool = group.cgroup().pool(&limits).expect("memory can be limited");
    let use_memory = |megabytes: usize| {
        let leaf = pool.acquire().expect("a leaf");
        let script = format!("x=$(head -c {} /dev/zero | tr '\\0' x)", megabytes << 20);
        let status = run_in(&leaf.path(), &script).wait().expect("it is a child");
        let report = leaf.report();
        eprintln!("{megabytes} MiB: {status}, {report:?}");
        assert_eq!(
            report.oom_kills().map(|kills| kills > 0),
            Some(!status.success())
        );
        // The file is there from Linux 5.19 on.
        assert_eq!(
            report.peak_memory().is_some(),
            leaf.path().join("memory.peak").exists()
        );
        (report.peak_memory().unwrap_or(10 << 20), status.success())
    };
    let (large, succeeded) = use_memory(8);
    assert!(succeeded && large > 8 << 20 && large <= 40 << 20, "{large}");
    let (at_limit, succeeded) = use_memory(100);
    assert!(!succeeded && at_limit > 8 << 20, "{at_limit}");
    let (small, succeeded) = use_memory(0);
    assert!(succeeded && small < large, "{small}, {large}");
}
