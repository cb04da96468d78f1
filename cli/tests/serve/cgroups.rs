//! Processes with a cgroup of their own.

use std::fs;
use std::path::Path;
use std::process::Command;

use exitring_protocol::{CgroupLimits, CgroupUsage, ClientError, Code, Cpus, Outcome, Spawn};
use serde_json::json;

use crate::permissions::{as_nobody, connect, open_directory};
use crate::service::{EXITED_0, RawClient, Service, counts, eventually, next_record, sh};
use crate::test_group::TestGroup;

pub(crate) fn service_in(group: &TestGroup) -> Service {
    Service::start(&["--cgroup", group.path.to_str().expect("it is text")])
}

pub(crate) fn with_cgroup(spawn: Spawn) -> Spawn {
    Spawn {
        cgroup: Some(CgroupLimits::default()),
        ..spawn
    }
}

pub(crate) fn leftover(count: u64) -> Option<CgroupUsage> {
    Some(CgroupUsage {
        leftover: count,
        ..CgroupUsage::default()
    })
}

/// A part of a script: starts a process in another session that ignores SIGTERM, and waits until
/// it has written its pid to a file.
pub(crate) fn daemon(file: &Path) -> String {
    let file = file.display();
    format!(
        "setsid sh -c 'trap \"\" TERM; echo $$ > {file}.new; mv {file}.new {file}; exec sleep 1000' & \
         while [ ! -e {file} ]; do sleep 0.01; done; "
    )
}

pub(crate) fn pid_in(file: &Path) -> i32 {
    let mut pid = None;
    eventually("it has written its pid", || {
        let text = fs::read_to_string(file).unwrap_or_default();
        pid = text.trim().parse().ok();
        pid.is_some()
    });
    pid.expect("it has written its pid")
}

pub(crate) fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>, code: Code, text: &str) {
    let error = result.expect_err("it is refused");
    assert_eq!(error.code(), Some(code), "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn a_service_without_a_cgroup_refuses_cgroup_limits() {
    let service = Service::start(&[]);
    let mut client = service.client();
    let spawn = with_cgroup(sh("true", ""));
    refused(client.spawn(spawn), Code::Unsupported, "--cgroup");
    let mut raw = RawClient::connect(&service);
    raw.hello();
    for cgroup in [
        json!(1),
        json!({"swap": 1}),
        json!({"memory": -1}),
        json!({"memory": "1G"}),
        json!({"processes": 1.5}),
        json!({"cpus": 0}),
        json!({"cpus": -1}),
        json!({"cpus": "2"}),
    ] {
        let line = json!({"op": "spawn", "argv": ["true"], "cgroup": cgroup});
        let answer = raw.ask(line.to_string());
        assert_eq!(answer["error"]["code"], "bad_request", "{line}: {answer}");
    }
    assert_eq!(counts(&mut client).last_seq, 0);
}

#[test]
fn a_service_does_not_start_with_a_cgroup_that_it_cannot_use() {
    let directory = tempfile::TempDir::new().expect("a directory can be created");
    for cgroup in [directory.path(), Path::new("/nonesuch")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exitring"));
        command
            .args(["serve", "--socket"])
            .arg(directory.path().join("socket"))
            .arg("--state")
            .arg(directory.path().join("state"))
            .arg("--cgroup")
            .arg(cgroup);
        let output = command.output().expect("it starts");
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8_lossy(&output.stderr);
        let path = cgroup.to_str().expect("it is text");
        assert!(
            error.contains("--cgroup") && error.contains(path),
            "{error}"
        );
    }
}

#[test]
fn what_a_process_leaves_in_its_cgroup_is_reported() {
    let Some(group) = TestGroup::new("what_a_process_leaves_in_its_cgroup_is_reported") else {
        return;
    };
    let service = service_in(&group);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let directory = service.directory.path();
    let (out, pid) = (directory.join("out"), directory.join("pid"));
    let script = format!(
        "cat /proc/self/cgroup > {}; {}",
        out.display(),
        daemon(&pid)
    );
    client
        .spawn(with_cgroup(sh(&script, "")))
        .expect("it starts");
    let record = next_record(&mut client);
    assert_eq!((record.outcome, record.cgroup), (EXITED_0, leftover(1)));
    // It runs in a leaf from its first instruction on.
    let its = fs::read_to_string(out).expect("it was written");
    let leaf = its.lines().find_map(|line| line.strip_prefix("0::"));
    let name = group.path.file_name().expect("it has one");
    let name = name.to_str().expect("it is text");
    assert!(leaf.is_some_and(|leaf| leaf.contains(name)), "{its}");
    // Nothing was killed. The next process has another leaf.
    assert!(is_running(pid_in(&pid)));
    client
        .spawn(with_cgroup(sh("exit 0", "")))
        .expect("it starts");
    assert_eq!(next_record(&mut client).cgroup, leftover(0));
    client.spawn(sh("exit 0", "")).expect("it starts");
    assert_eq!(next_record(&mut client).cgroup, None);
    // One that cannot start leaves no watch.
    let spawn = Spawn {
        argv: vec!["/nonesuch".into()],
        ..Spawn::default()
    };
    refused(
        client.spawn(with_cgroup(spawn)),
        Code::CannotStart,
        "nonesuch",
    );
    assert_eq!(counts(&mut client).watched, 0);
    group.kill_all();
}

#[test]
fn a_timeout_kills_all_that_a_process_has_started() {
    let Some(group) = TestGroup::new("a_timeout_kills_all_that_a_process_has_started") else {
        return;
    };
    let service = service_in(&group);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let directory = service.directory.path();
    let timeout = |script: String, tag: &str| Spawn {
        // Long enough for the daemon to start.
        timeout_ms: Some(3000),
        grace_ms: Some(100),
        ..with_cgroup(sh(&script, tag))
    };
    // One ends by SIGTERM, and its daemon ignores that. The other ignores it itself.
    let (polite, stubborn) = (directory.join("polite"), directory.join("stubborn"));
    let script = format!("{} exec sleep 1000", daemon(&polite));
    client.spawn(timeout(script, "polite")).expect("it starts");
    let script = format!("trap '' TERM; {} exec sleep 1000", daemon(&stubborn));
    client
        .spawn(timeout(script, "stubborn"))
        .expect("it starts");
    let daemons = [pid_in(&polite), pid_in(&stubborn)];
    for _ in 0..2 {
        let record = next_record(&mut client);
        assert!(record.timed_out && record.cgroup.is_some(), "{record:?}");
        let Outcome::Signaled { signal, .. } = record.outcome else {
            panic!("{record:?}");
        };
        match record.tag.as_str() {
            "polite" => {
                assert_eq!((signal, record.cgroup), (libc::SIGTERM, leftover(1)));
            }
            _ => assert_eq!(signal, libc::SIGKILL),
        }
    }
    eventually("both daemons have ended", || {
        !daemons.into_iter().any(is_running)
    });
}

#[test]
fn a_user_cannot_take_its_process_out_of_its_cgroup() {
    let Some(group) = TestGroup::new("a_user_cannot_take_its_process_out_of_its_cgroup") else {
        return;
    };
    let path = group.path.to_str().expect("it is text");
    let service = Service::start(&["--mode", "0666", "--cgroup", path]);
    open_directory(&service);
    let outcome = || {
        let mut client = connect(&service);
        client.subscribe(u64::MAX).expect("it subscribes");
        let script = format!("echo 0 2>/dev/null >{path}/cgroup.procs || exit 7");
        client
            .spawn(with_cgroup(sh(&script, "")))
            .expect("it starts");
        let record = next_record(&mut client);
        assert_eq!(record.cgroup, leftover(0));
        record.outcome
    };
    assert_eq!(as_nobody(outcome), Outcome::Exited(7));
    // Root can. So the attempt failed because of the user.
    assert_eq!(outcome(), EXITED_0);
    // Each user has a pool of its own.
    let pools = group.leaves();
    let pools = pools.iter().filter(|its| its.parent() == Some(&group.path));
    assert_eq!(pools.count(), 2);
}

#[test]
fn limits_of_cgroups_apply_and_are_counted() {
    let Some(group) = TestGroup::new("limits_of_cgroups_apply_and_are_counted") else {
        return;
    };
    let service = service_in(&group);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let limited = |limits: CgroupLimits, script: &str| Spawn {
        cgroup: Some(limits),
        ..sh(script, "")
    };
    let memory = CgroupLimits {
        memory: Some(32 << 20),
        processes: Some(20),
        cpus: Cpus::new(0.5),
    };
    if !group.has_controllers() {
        let spawn = limited(memory, "true");
        refused(client.spawn(spawn), Code::Unsupported, "controller");
        return eprintln!("the limits were not tested: the cgroup has no controllers");
    }
    let none = CgroupLimits {
        memory: Some(0),
        ..memory
    };
    refused(
        client.spawn(limited(none, "true")),
        Code::OutOfRange,
        "memory",
    );
    // tail keeps its input in memory.
    let script = "head -c 200000000 /dev/zero | tail -c 150000000 > /dev/null";
    client.spawn(limited(memory, script)).expect("it starts");
    let cgroup = next_record(&mut client).cgroup.expect("it is reported");
    assert!(cgroup.oom_kills >= Some(1), "{cgroup:?}");
    assert!(cgroup.peak_memory_bytes > Some(1 << 20), "{cgroup:?}");
    // More sets of limits than there are pools: those that are not in use are removed.
    for count in 20..120 {
        let limits = CgroupLimits {
            processes: Some(count),
            ..CgroupLimits::default()
        };
        client.spawn(limited(limits, "exit 0")).expect("it starts");
        assert_eq!(next_record(&mut client).outcome, EXITED_0);
    }
    assert!(group.leaves().len() < 200, "{:?}", group.leaves());
}
