//! Children that a watcher starts in cgroups.

use std::collections::HashSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use exitring::{
    CgroupError, CgroupLimits, CgroupPool, Child, Command, Outcome, SignalError, SpawnError, Stdio,
    Watcher,
};

use crate::common::*;
use crate::test_group::*;

fn shell(pool: &CgroupPool, script: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .cgroup(pool)
        .stdin(Stdio::null());
    command
}

/// A process of its own with the test's name, once with `clone3` and once without.
fn with_and_without_clone3(test: &str) {
    run_in_own_process(test, |_| ());
    run_in_own_process(test, |command| {
        let deny = || crate::common::deny::deny(libc::SYS_clone3, libc::ENOSYS);
        // SAFETY: `deny` makes system calls only.
        unsafe { command.pre_exec(deny) };
    });
}

#[test]
fn a_child_starts_in_a_leaf_of_its_own() {
    if !in_own_process() {
        return with_and_without_clone3("children::a_child_starts_in_a_leaf_of_its_own");
    }
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let watcher = Watcher::new().unwrap();
    // All at once, so each has another leaf: they wait for the end of their input.
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let input = Stdio::from(reader);
    let children: Vec<Child> = (0..20)
        .map(|_| {
            let mut command = shell(&pool, "cat /proc/self/cgroup; read line || true");
            command.stdin(input.clone()).stdout(Stdio::piped());
            watcher.spawn(&mut command).unwrap()
        })
        .collect();
    drop(writer);
    let mut seen = HashSet::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let own = text
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .unwrap();
        let (pool_name, _) = own.rsplit_once('/').unwrap();
        assert!(
            pool.path().ends_with(pool_name.rsplit('/').next().unwrap()),
            "{own}"
        );
        assert!(seen.insert(own.to_owned()), "{own} is used twice");
        let report = output.exit.cgroup().unwrap();
        assert_eq!((report.leftover_count(), report.leftover()), (0, &[][..]));
        assert!(report.is_complete());
    }
    // They are reused.
    let child = watcher.spawn(&mut shell(&pool, "exit 3")).unwrap();
    assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(3));
    assert!(pool.leaves() <= 20, "{}", pool.leaves());
    // A child without a group has no report.
    let child = watcher.spawn(&mut Command::new("true")).unwrap();
    assert_eq!(child.wait().unwrap().cgroup(), None);
    assert!(matches!(child.kill_tree(), Err(SignalError::NoCgroup)));
}

/// A child that ends and leaves a daemon in a session of its own, with a parent that has ended.
const DAEMON: &str = "setsid sh -c 'sleep 1000 </dev/null >/dev/null 2>&1 &' & wait";

#[test]
fn a_daemon_is_reported_and_killed_with_the_tree() {
    if !in_own_process() {
        return with_and_without_clone3("children::a_daemon_is_reported_and_killed_with_the_tree");
    }
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let watcher = Watcher::new().unwrap();
    let mut command = shell(&pool, DAEMON);
    let child = watcher.spawn(command.process_group(0)).unwrap();
    let exit = child.wait().unwrap();
    assert!(exit.success());
    let report = exit.cgroup().unwrap();
    assert_eq!(report.leftover_count(), 1);
    let daemon = report.leftover()[0].as_raw();
    // SAFETY: bare system calls.
    let (alive, own_group) = unsafe { (libc::kill(daemon, 0) == 0, libc::getpgid(daemon)) };
    assert!(
        alive && own_group != child.pid().as_raw(),
        "it has left the group"
    );
    // The leaf is not reused meanwhile.
    let other = watcher.spawn(&mut shell(&pool, "exit 0")).unwrap();
    assert_eq!(other.wait().unwrap().cgroup().unwrap().leftover_count(), 0);
    child.kill_tree().unwrap();
    // SAFETY: a bare system call. Nobody reaps it but init, or this process's own subreaper.
    until(
        "it is dead",
        || unsafe { libc::kill(daemon, 0) == -1 } || is_zombie(daemon),
    );
    assert!(child.kill_tree().is_ok(), "nothing is left to kill");
}

#[test]
fn children_start_although_groups_were_killed_before() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let watcher = Watcher::new().unwrap();
    let run = || {
        let exit = watcher
            .spawn(&mut shell(&pool, "exit 6"))
            .unwrap()
            .wait()
            .unwrap();
        assert_eq!(exit.outcome(), Outcome::Exited(6));
        assert_eq!(exit.cgroup().unwrap().leftover_count(), 0);
    };
    run();
    // Another program kills all groups of the pool, which are empty. The kernel counts that.
    match fs::write(pool.path().join("cgroup.kill"), "1") {
        Ok(()) => {}
        Err(error) => return println!("not tested: {error}"),
    }
    for _ in 0..3 {
        run();
    }
    // Or the group that this process is in later.
    if !in_own_process() {
        let test = "children::children_start_although_groups_were_killed_before";
        return run_in_own_process(test, |_| ());
    }
    let parent = group.path.join("parent");
    fs::create_dir(&parent).unwrap();
    fs::write(parent.join("cgroup.kill"), "1").unwrap();
    fs::write(parent.join("cgroup.procs"), "0").unwrap();
    for _ in 0..3 {
        run();
    }
    let back = group.path.parent().unwrap().join("cgroup.procs");
    fs::write(back, "0").unwrap();
}

#[test]
fn leftovers_are_killed_at_once_if_asked_to() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let watcher = Watcher::new().unwrap();
    // The daemon has the output, so it would be read until the daemon ends.
    let script = "setsid sh -c 'echo daemon; sleep 1000 &' & wait; exit 4";
    let mut command = shell(&pool, script);
    let child = watcher
        .spawn(command.kill_leftovers().stdout(Stdio::piped()))
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"daemon\n");
    assert_eq!(output.exit.outcome(), Outcome::Exited(4));
    assert_eq!(output.exit.cgroup().unwrap().leftover_count(), 1);
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

/// The number of processes in the groups of a pool. A group may be removed meanwhile.
fn count_processes(pool: &Path) -> usize {
    let groups = sub_groups(pool).into_iter();
    let counts = groups.map(|group| {
        let text = fs::read_to_string(pool.join(group).join("cgroup.procs"));
        text.map_or(0, |text| text.lines().count())
    });
    counts.sum()
}

#[test]
fn a_deadline_kills_the_tree() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let watcher = Watcher::new().unwrap();
    let soon = Duration::from_millis(50);
    // One whose leader ends at SIGTERM, one whose leader ignores it, and one that leads no group.
    let leaders = [
        ("setsid sleep 1000 & exec sleep 1000", true),
        (
            "setsid sleep 1000 & trap '' TERM; sleep 1000; sleep 1000",
            true,
        ),
        ("setsid sleep 1000 & exec sleep 1000", false),
    ];
    for (script, leads) in leaders {
        let mut command = shell(&pool, script);
        if leads {
            command.process_group(0);
        }
        let child = watcher.spawn(&mut command).unwrap();
        until("the daemon runs", || count_processes(&pool.path()) >= 2);
        child.deadline(soon, soon).unwrap();
        let exit = child.wait().unwrap();
        assert!(exit.by_deadline(), "{script}");
        until("no process is left", || count_processes(&pool.path()) == 0);
    }
}

#[test]
fn dropping_what_owns_a_child_kills_the_tree() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let watcher = Watcher::new().unwrap();
    let script = "setsid sleep 1000 & exec sleep 1000";
    let mut child = watcher.spawn(&mut shell(&pool, script)).unwrap();
    child.kill_on_drop(true);
    drop(child);
    let mut starting = watcher.spawn_async(shell(&pool, script));
    futures_lite::future::block_on(futures_lite::future::poll_once(&mut starting));
    std::thread::sleep(Duration::from_millis(20));
    drop(starting);
    until_stats(&watcher, "all have ended", |stats| stats.watched == 0);
    until("no process is left", || count_processes(&pool.path()) == 0);
}

#[test]
fn a_child_that_cannot_start_leaves_nothing() {
    let test = "children::a_child_that_cannot_start_leaves_nothing";
    if !in_own_process() {
        return with_and_without_clone3(test);
    }
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let watcher = Watcher::new().unwrap();
    let mut command = Command::new("/no/such/program");
    command.cgroup(&pool).stdout(Stdio::piped());
    let before = open_descriptors();
    for _ in 0..10 {
        let error = watcher.spawn(&mut command).unwrap_err();
        assert!(matches!(error, SpawnError::NotFound { .. }), "{error:?}");
    }
    assert_eq!(open_descriptors(), before);
    assert_eq!(pool.leaves(), 1, "the leaf is reused");
    // Another program removes the leaf, and later the whole pool.
    let leaf = sub_groups(&pool.path()).pop().unwrap();
    fs::remove_dir(pool.path().join(&leaf)).unwrap();
    let mut command = shell(&pool, "exit 0");
    let error = watcher.spawn(&mut command).unwrap_err();
    assert!(
        matches!(error, SpawnError::Cgroup(CgroupError::Missing { .. })),
        "{error:?}"
    );
    assert!(message(error).contains(&leaf));
    // The next leaf is a new one.
    assert!(
        watcher
            .spawn(&mut command)
            .unwrap()
            .wait()
            .unwrap()
            .success()
    );
    for leaf in sub_groups(&pool.path()) {
        fs::remove_dir(pool.path().join(leaf)).unwrap();
    }
    fs::remove_dir(pool.path()).unwrap();
    for _ in 0..2 {
        let error = watcher.spawn(&mut command).unwrap_err();
        assert!(
            matches!(error, SpawnError::Cgroup(CgroupError::Missing { .. })),
            "{error:?}"
        );
    }
    // The pidfd of the child that ran may be closed a moment later.
    until("no descriptor is left", || open_descriptors() == before);
    // SAFETY: a null pointer.
    let child = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
    assert_eq!(child, -1, "no child is left");
}

#[test]
fn memory_and_oom_kills_of_the_tree_are_reported() {
    let Some(group) = TestGroup::with_controllers() else {
        return;
    };
    let limits = CgroupLimits::new().memory(32 << 20).processes(20);
    let pool = group.cgroup().pool(&limits).unwrap();
    let watcher = Watcher::new().unwrap();
    let use_memory =
        |bytes| format!("sh -c \"x=\\$(head -c {bytes} /dev/zero | tr '\\\\0' x)\"; exit 7");
    // A descendant is killed, not the child.
    let child = watcher
        .spawn(&mut shell(&pool, &use_memory(128 << 20)))
        .unwrap();
    let exit = child.wait().unwrap();
    let report = exit.cgroup().unwrap();
    assert_eq!(exit.outcome(), Outcome::Exited(7));
    assert!(report.oom_kills().unwrap() >= 1, "{report:?}");
    if kernel_is_at_least(5, 19) {
        let peak = report.peak_memory().unwrap();
        assert!((16 << 20..=33 << 20).contains(&peak), "{peak}");
    }
    // The next child starts from nothing.
    let child = watcher
        .spawn(&mut shell(&pool, &use_memory(1 << 20)))
        .unwrap();
    let exit = child.wait().unwrap();
    let report = exit.cgroup().unwrap();
    assert_eq!(report.oom_kills(), Some(0));
    if kernel_is_at_least(5, 19) {
        assert!(report.peak_memory().unwrap() < 16 << 20, "{report:?}");
    }
    // The limit on processes is that of the leaf, and the error of a start names it.
    let pool = group.cgroup().pool(&CgroupLimits::new().processes(0));
    if let Ok(pool) = pool {
        let error = watcher.spawn(&mut shell(&pool, "exit 0")).unwrap_err();
        assert!(matches!(error, SpawnError::NoProcesses(_)), "{error:?}");
        assert!(error.to_string().contains("pids.max"), "{error}");
    }
}
