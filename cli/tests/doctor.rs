//! `exitring doctor`.

mod common;

use common::{exitring, shell, stdout};
use serde_json::Value;

fn findings(script: &str) -> Value {
    let output = shell(script).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn it_reports_the_backend_and_the_limits() {
    let text = stdout(&mut exitring(["doctor"]));
    for words in [
        "kernel",
        "backend",
        "io_uring",
        "pidfds",
        "cgroups",
        "descriptors",
        "kernel.pid_max",
        "processes at a time",
        "watches at a time",
        "jobs at a time",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(
        !text.contains('\u{1b}'),
        "no colours where there is no terminal"
    );
}

#[test]
fn the_numbers_are_the_limits_of_the_process() {
    let findings = findings("ulimit -n 200; $EXITRING doctor --json");
    assert_eq!(findings["descriptors_soft"], 200);
    assert!(findings["processes_at_a_time"].as_u64().unwrap() > 0);
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(findings["kernel"], release.trim());
}

#[test]
fn with_epoll_descriptors_limit_the_watches() {
    let findings = findings(
        "unset EXITRING_BACKEND; ulimit -n 200; EXITRING_BACKEND=epoll $EXITRING doctor --json",
    );
    assert_eq!(findings["backend"], "epoll");
    assert!(findings["watches_at_a_time"].as_u64().unwrap() < 200);
    assert!(
        findings["watches_bounded_by"]
            .as_str()
            .unwrap()
            .contains("RLIMIT_NOFILE")
    );
}

#[test]
fn the_limit_on_processes_of_a_user_applies_to_users_other_than_root() {
    let findings = findings(
        "ulimit -u 1234; chmod a+rx . 2>/dev/null; cp $EXITRING /tmp/exitring-doctor-$$; \
        setpriv --reuid 65534 --clear-groups /tmp/exitring-doctor-$$ doctor --json; rm /tmp/exitring-doctor-$$",
    );
    let limits = findings["process_limits"].as_array().unwrap();
    let nproc = limits
        .iter()
        .find(|limit| limit["name"] == "RLIMIT_NPROC")
        .expect("it applies to this user");
    assert_eq!(nproc["max"], 1234);
}

#[test]
fn jobs_run_where_it_reports_success_and_fail_where_it_reports_a_remedy() {
    let codes = |limit: u32, backend: &str, script: &str| {
        let script = format!("ulimit -n {limit}; export EXITRING_BACKEND={backend}; {script}");
        let output = shell(&script).output().unwrap();
        (output.status.code(), output)
    };
    for backend in ["auto", "epoll"] {
        let mut usable = 0;
        for limit in 5..32 {
            let (found, output) = codes(limit, backend, "$EXITRING doctor");
            if found == Some(0) {
                usable += 1;
                let run = "yes 'echo x' | head -n 300 | $EXITRING run -j 4";
                let (ran, output) = codes(limit, backend, run);
                assert_eq!(ran, Some(0), "{backend}, {limit}: {output:?}");
            } else {
                let text = String::from_utf8_lossy(&output.stdout);
                assert!(text.contains("raise ulimit -n"), "{limit}: {text}");
            }
            if limit < 15 {
                assert_eq!(found, Some(3), "{backend}, {limit}: {output:?}");
                let (ran, output) = codes(limit, backend, "yes | $EXITRING run");
                assert_eq!(ran, Some(3), "{backend}, {limit}: {output:?}");
                let text = String::from_utf8_lossy(&output.stderr);
                assert!(text.contains("ulimit -n"), "{backend}, {limit}: {text}");
            }
        }
        assert!(usable > 5, "{backend}");
    }
}

/// As a user to whom no cgroup is delegated.
#[test]
fn without_a_delegated_cgroup_it_says_how_to_get_one() {
    let findings = findings(
        "chmod a+rx . 2>/dev/null; cp $EXITRING /tmp/exitring-cgroups-$$; \
        setpriv --reuid 65534 --clear-groups /tmp/exitring-cgroups-$$ doctor --json; rm /tmp/exitring-cgroups-$$",
    );
    let cgroups = &findings["cgroups"];
    assert_eq!(cgroups["available"], false);
    if cgroups["path"].is_null() {
        eprintln!("not tested: {}", cgroups["why_not"]);
        return;
    }
    let why = cgroups["why_not"].as_str().unwrap();
    assert!(
        why.contains("systemd-run --user --scope -p Delegate=yes"),
        "{why}"
    );
    let remedies = findings["remedies"].as_array().unwrap();
    assert!(remedies.contains(&cgroups["why_not"]), "{remedies:?}");
}

#[test]
fn it_names_the_remedy_where_nothing_can_be_watched() {
    let output = shell("ulimit -n 4; $EXITRING doctor --json")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("ulimit -n"),
        "{output:?}"
    );
}
