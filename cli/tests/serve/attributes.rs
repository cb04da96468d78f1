//! Limits, nice value and umask of processes that the service starts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use exitring_protocol::{Client, Code, LimitValue, Outcome, Resource, ResourceLimit, Spawn};
use rustix::process::{getrlimit, setpriority_process, setrlimit};
use serde_json::json;

use crate::permissions::{as_nobody, connect, open_directory};
use crate::service::{EXITED_0, RawClient, Service, error_code, is_root, next_record, sh};

/// The hard limit of descriptors that services of these tests inherit.
const HARD: u64 = 300;
/// Their nice value.
const NICE: i32 = 5;

fn number(number: u64) -> Option<LimitValue> {
    Some(LimitValue::Number(number))
}

fn limits(
    resource: Resource,
    soft: Option<LimitValue>,
    hard: Option<LimitValue>,
) -> BTreeMap<Resource, ResourceLimit> {
    BTreeMap::from([(resource, ResourceLimit { soft, hard })])
}

/// A service with a hard limit of [`HARD`] descriptors, and a nice value of [`NICE`].
fn limited_service(arguments: &[&str]) -> Service {
    let mut service = Service::start(arguments);
    service.terminate();
    let mut command = service.command();
    let lower = || {
        let mut limit = getrlimit(rustix::process::Resource::Nofile);
        limit.current = Some(200);
        limit.maximum = Some(HARD);
        setrlimit(rustix::process::Resource::Nofile, limit)?;
        setpriority_process(None, NICE)?;
        Ok(())
    };
    // SAFETY: the closure only makes system calls.
    unsafe { command.pre_exec(lower) };
    service.process = command.spawn().expect("it starts");
    service.wait_until_it_answers();
    service
}

/// What a shell reports of itself, line by line.
fn report(service: &Service, client: &mut Client, name: &str, spawn: Spawn) -> Vec<String> {
    let out = service.directory.path().join("nobodys").join(name);
    let spawn = Spawn {
        argv: ["sh", "-c", "ulimit -Sn; ulimit -Hn; nice; umask"]
            .map(Into::into)
            .into(),
        stdout: Some(out.clone()),
        ..spawn
    };
    client.subscribe(u64::MAX).expect("it subscribes");
    client.spawn(spawn).expect("it starts");
    assert_eq!(next_record(client).outcome, EXITED_0);
    let text = fs::read_to_string(out).expect("it was written");
    text.lines().map(Into::into).collect()
}

/// A directory for the files of all users.
fn make_directory(service: &Service) {
    let place = service.directory.path().join("nobodys");
    fs::create_dir(&place).expect("it can be created");
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(&place, open).expect("permissions can be set");
}

/// Whether this process has a capability, by its number.
fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("it is readable");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .expect("it has one");
    let bits = u64::from_str_radix(line.trim(), 16).expect("it is a number");
    bits & (1 << number) != 0
}

const CAP_SYS_NICE: u32 = 23;
const CAP_SYS_RESOURCE: u32 = 24;

#[test]
fn a_spawned_process_has_its_limits_nice_value_and_umask() {
    let service = limited_service(&[]);
    make_directory(&service);
    let mut client = service.client();
    let inherited = report(&service, &mut client, "inherited", Spawn::default());
    assert_eq!(inherited[..3], ["200", "300", "5"]);
    let lowered = Spawn {
        limits: limits(Resource::Nofile, number(100), number(150)),
        nice: Some(12),
        umask: Some(0o027),
        ..Spawn::default()
    };
    let lowered = report(&service, &mut client, "lowered", lowered);
    assert_eq!(lowered, ["100", "150", "12", "0027"]);
    // The umask applies to the file that was created for it.
    let mode = fs::metadata(service.directory.path().join("nobodys/lowered"));
    let mode = mode.expect("it exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let hard_only = Spawn {
        limits: limits(Resource::Nofile, None, number(120)),
        ..Spawn::default()
    };
    let hard_only = report(&service, &mut client, "hard", hard_only);
    assert_eq!(hard_only[..2], ["120", "120"]);
    let soft_only = Spawn {
        limits: limits(Resource::Nofile, number(HARD), None),
        ..Spawn::default()
    };
    let soft_only = report(&service, &mut client, "soft", soft_only);
    assert_eq!(soft_only[..2], ["300", "300"]);
    // The service has kept its own.
    let again = report(&service, &mut client, "again", Spawn::default());
    assert_eq!(again, inherited);
}

#[test]
fn the_kernel_enforces_the_limits() {
    let service = Service::start(&[]);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let out = service.directory.path().join("out");
    let spawn = Spawn {
        argv: ["head", "-c", "100000", "/dev/zero"].map(Into::into).into(),
        stdout: Some(out.clone()),
        limits: limits(Resource::Fsize, number(1000), number(1000)),
        ..Spawn::default()
    };
    client.spawn(spawn).expect("it starts");
    let Outcome::Signaled { signal, .. } = next_record(&mut client).outcome else {
        panic!("the limit had no effect");
    };
    assert_eq!(signal, libc::SIGXFSZ);
    assert_eq!(fs::metadata(out).expect("it was created").len(), 1000);
    // A child without any descriptor still passes its start gate.
    let spawn = Spawn {
        limits: limits(Resource::Nofile, number(0), number(0)),
        ..sh("exit 0", "")
    };
    client.spawn(spawn).expect("it starts");
    next_record(&mut client);
}

#[test]
fn attributes_out_of_range_are_refused_and_start_nothing() {
    let service = limited_service(&[]);
    let mut raw = RawClient::connect(&service);
    raw.hello();
    let with = |field: &str, value: serde_json::Value| {
        let mut line = json!({"id": 1, "op": "spawn", "argv": ["true"]});
        line[field] = value;
        line
    };
    let cases = [
        ("limits", json!({"speed": {"soft": 1}}), "bad_request"),
        (
            "limits",
            json!({"RLIMIT_NOFILE": {"soft": 1}}),
            "bad_request",
        ),
        ("limits", json!({"nofile": 1}), "bad_request"),
        ("limits", json!({"nofile": {"soft": -1}}), "bad_request"),
        ("limits", json!({"nofile": {"soft": 1.5}}), "bad_request"),
        ("limits", json!({"nofile": {"soft": "1"}}), "bad_request"),
        ("limits", json!({"nofile": {"max": 1}}), "bad_request"),
        (
            "limits",
            json!({"nofile": {"soft": 101, "hard": 100}}),
            "out_of_range",
        ),
        (
            "limits",
            json!({"nofile": {"soft": "unlimited", "hard": 100}}),
            "out_of_range",
        ),
        // Above the hard limit that it would inherit.
        (
            "limits",
            json!({"nofile": {"soft": HARD + 1}}),
            "out_of_range",
        ),
        ("nice", json!(20), "out_of_range"),
        ("nice", json!(-21), "out_of_range"),
        ("nice", json!("10"), "bad_request"),
        ("umask", json!(0o1000), "out_of_range"),
        ("umask", json!(-1), "bad_request"),
        ("umask", json!("0022"), "bad_request"),
    ];
    for (field, value, code) in cases {
        let line = with(field, value);
        let answer = raw.ask(line.to_string());
        assert_eq!(answer["error"]["code"], code, "{line}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(message.len() > 20, "{line}: {answer}");
    }
    let counts = service.counts();
    assert_eq!((counts.watched, counts.records, counts.last_seq), (0, 0, 0));
}

#[test]
fn only_root_raises_hard_limits_and_lowers_nice_values() {
    if !is_root("only_root_raises_hard_limits_and_lowers_nice_values") {
        return;
    }
    let service = limited_service(&["--mode", "0666"]);
    open_directory(&service);
    make_directory(&service);
    let raised = || Spawn {
        limits: limits(Resource::Nofile, number(HARD + 1), number(HARD + 1)),
        ..Spawn::default()
    };
    let unlimited = || Spawn {
        limits: limits(Resource::Nofile, None, Some(LimitValue::Unlimited)),
        ..sh("true", "")
    };
    let nicer = || Spawn {
        nice: Some(NICE - 1),
        ..Spawn::default()
    };
    as_nobody(|| {
        let mut nobody = connect(&service);
        for spawn in [raised(), unlimited(), nicer()] {
            let spawn = Spawn {
                argv: vec!["true".into()],
                ..spawn
            };
            let error = nobody.spawn(spawn).expect_err("it is refused");
            assert_eq!(error.code(), Some(Code::Denied));
            assert!(error.to_string().contains("only root"), "{error}");
        }
        let allowed = Spawn {
            limits: limits(Resource::Nofile, number(HARD), number(HARD)),
            nice: Some(NICE),
            umask: Some(0o077),
            ..Spawn::default()
        };
        let allowed = report(&service, &mut nobody, "allowed", allowed);
        assert_eq!(allowed, ["300", "300", "5", "0077"]);
        let lowered = Spawn {
            limits: limits(Resource::Nofile, number(10), number(10)),
            nice: Some(19),
            ..Spawn::default()
        };
        let lowered = report(&service, &mut nobody, "lowered", lowered);
        assert_eq!(lowered[..3], ["10", "10", "19"]);
    });
    let mut root = service.client();
    let try_as_root = |root: &mut Client, spawn: Spawn, capability, name: &str| {
        if has_capability(capability) {
            return Some(report(&service, root, name, spawn));
        }
        let argv = vec!["true".into()];
        let error = root.spawn(Spawn { argv, ..spawn });
        let error = error.expect_err("the kernel refuses it");
        assert_eq!(error.code(), Some(Code::Denied));
        assert!(error.to_string().contains("CAP_SYS_"), "{error}");
        None
    };
    if let Some(raised) = try_as_root(&mut root, raised(), CAP_SYS_RESOURCE, "raised") {
        assert_eq!(raised[..2], ["301", "301"]);
    }
    if let Some(nicer) = try_as_root(&mut root, nicer(), CAP_SYS_NICE, "nicer") {
        assert_eq!(nicer[2], "4");
    }
    // Even root has at most fs.nr_open descriptors.
    let error = root.spawn(unlimited()).expect_err("the kernel refuses it");
    assert_eq!(error.code(), Some(Code::Denied));
    assert!(error.to_string().contains("fs.nr_open"), "{error}");
    // A refusal after the start gate leaves no watch.
    assert_eq!(error_code(root.spawn(unlimited())), Code::Denied);
    assert_eq!(service.counts().watched, 0);
}
