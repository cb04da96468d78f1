//! Processes that the service starts.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use exitring_protocol::{Code, Outcome, Spawn, Watched};
use rustix::process::{Signal, kill_process};

use crate::service::{
    EXITED_0, RawClient, Service, counts, error_code, eventually, next_record, sh,
};

#[test]
fn a_spawned_process_has_its_arguments_environment_cwd_and_files() {
    let service = Service::start(&[]);
    let place = service.directory.path();
    fs::write(place.join("in"), "from a file\n").expect("it can be written");
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let spawn = Spawn {
        argv: [
            "sh",
            "-c",
            "read line; echo \"$line $1 $A\"; pwd; pwd >&2; ulimit -n; env | grep -c . ; exit 3",
            "sh",
            "an argument",
        ]
        .map(Into::into)
        .into(),
        env: Some(BTreeMap::from(
            [("A", "b"), ("PATH", "/bin:/usr/bin")].map(|(k, v)| (k.into(), v.into())),
        )),
        cwd: Some(place.into()),
        stdin: Some("in".into()),
        stdout: Some(place.join("out")),
        stderr: Some("err".into()),
        tag: "a tag".into(),
        ..Spawn::default()
    };
    let Watched { watch, pid } = client.spawn(spawn).expect("it starts");
    let record = next_record(&mut client);
    assert_eq!((record.watch, record.pid, record.seq), (watch, pid, 1));
    assert_eq!(record.outcome, Outcome::Exited(3));
    assert_eq!(record.tag, "a tag");
    assert!(record.spawned && !record.timed_out);
    assert!(record.usage.expect("it is reported").max_rss_bytes > 0);
    assert!(record.began_ms <= record.ended_ms && record.began_ms > 1_600_000_000_000);
    let directory = place.canonicalize().expect("it exists");
    let directory = directory.display();
    let out = fs::read_to_string(place.join("out")).expect("it was written");
    let own_limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let own_limit = own_limit.current.expect("there is one");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "from a file an argument b".into(),
            directory.to_string(),
            own_limit.to_string()
        ]
    );
    let err = fs::read_to_string(place.join("err")).expect("it was written");
    assert_eq!(err, format!("{directory}\n"));
    eventually("it is reaped", || {
        fs::metadata(format!("/proc/{pid}")).is_err()
    });
}

#[test]
fn a_spawned_process_inherits_no_descriptors() {
    let service = Service::start(&[]);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let out = service.directory.path().join("out");
    let mut spawn = sh("ls /proc/self/fd | wc -l", "");
    spawn.stdout = Some(out.clone());
    client.spawn(spawn).expect("it starts");
    next_record(&mut client);
    let count = fs::read_to_string(out).expect("it was written");
    // The three standard streams, and the directory that ls reads.
    assert_eq!(count.trim(), "4");
}

#[test]
fn a_failed_spawn_reports_its_cause_and_leaves_no_watch() {
    let service = Service::start(&[]);
    let mut client = service.client();
    let argv = |program: &str| Spawn {
        argv: vec![program.into()],
        ..Spawn::default()
    };
    for spawn in [
        argv("/nonesuch"),
        argv("nonesuch"),
        argv("/etc/passwd"),
        Spawn {
            cwd: Some("/nonesuch".into()),
            ..argv("true")
        },
    ] {
        assert_eq!(error_code(client.spawn(spawn)), Code::CannotStart);
    }
    let with_file = Spawn {
        stderr: Some("/nonesuch/file".into()),
        ..argv("true")
    };
    let error = client.spawn(with_file).expect_err("it cannot start");
    assert!(error.to_string().contains("opening its stderr"), "{error}");
    for env in [("", "x"), ("A=B", "x"), ("A", "x")] {
        let spawn = Spawn {
            env: Some([env].map(|(k, v)| (k.into(), v.into())).into()),
            ..argv("true")
        };
        assert_eq!(error_code(client.spawn(spawn)), Code::OutOfRange);
    }
    let mut spawn = argv("true");
    spawn.tag = "x".repeat(257);
    assert_eq!(error_code(client.spawn(spawn)), Code::OutOfRange);
    let counts = counts(&mut client);
    assert_eq!((counts.watched, counts.records, counts.last_seq), (0, 0, 0));
}

#[test]
fn a_fifo_without_a_peer_blocks_no_spawn() {
    let mut service = Service::start(&[]);
    let fifo = service.directory.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("there is mkfifo").success());
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    // More than are started at a time.
    let mut many: Vec<_> = (0..40).map(|_| RawClient::connect(&service)).collect();
    for raw in &mut many {
        raw.hello();
        let path = fifo.display();
        raw.send_line(format!(
            r#"{{"op": "spawn", "argv": ["true"], "stdin": "{path}", "stdout": "{path}"}}"#
        ));
    }
    for raw in &mut many {
        let answer = raw.receive().expect("it answers");
        // It succeeds if another process of these has the FIFO open for reading at the moment.
        assert!(answer["ok"].is_object() || answer["error"]["code"] == "cannot_start");
    }
    drop(many);
    // Until then one of them may have the FIFO open.
    eventually("all have ended", || counts(&mut client).watched == 0);
    let before = counts(&mut client);
    let to_fifo = Spawn {
        stderr: Some(fifo.clone()),
        ..sh("true", "")
    };
    let error = client.spawn(to_fifo).expect_err("nobody reads");
    assert_eq!(error.code(), Some(Code::CannotStart));
    let message = error.to_string();
    assert!(
        message.contains("stderr") && message.contains("FIFO"),
        "{message}"
    );
    let from_fifo = Spawn {
        stdin: Some(fifo),
        ..sh("read line || exit 0; exit 1", "reads")
    };
    client.spawn(from_fifo).expect("it starts");
    let reads =
        std::iter::repeat_with(|| next_record(&mut client)).find(|record| record.tag == "reads");
    assert_eq!(reads.expect("its record is received").outcome, EXITED_0);
    assert!(counts(&mut client).last_seq > before.last_seq);
    service.kill();
    service.start_again();
    service.terminate();
}

#[test]
fn a_program_is_found_in_its_own_path_and_a_script_without_a_shebang_runs_in_the_shell() {
    use std::os::unix::fs::PermissionsExt;
    let service = Service::start(&[]);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let directory = service.directory.path();
    let script = directory.join("its-script");
    std::fs::write(&script, "test \"$1\" = one && exit 0\n").expect("it can be written");
    let spawn = |path: String| Spawn {
        argv: ["its-script", "one"].map(Into::into).into(),
        env: Some([("PATH".to_owned(), path)].into()),
        ..Spawn::default()
    };
    let with_it = || spawn(format!("/nowhere:{}:/bin", directory.display()));
    // It is not executable yet.
    assert_eq!(error_code(client.spawn(with_it())), Code::CannotStart);
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))
        .expect("permissions can be set");
    client.spawn(with_it()).expect("it starts");
    assert_eq!(next_record(&mut client).outcome, EXITED_0);
    assert_eq!(
        error_code(client.spawn(spawn("/bin".into()))),
        Code::CannotStart
    );
}

/// The children that the main thread of a process has forked, and that are not reaped.
fn forked_by_main_thread(process: u32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.expect("it is readable");
    let pids = children.split_whitespace().map(str::parse);
    pids.collect::<Result<_, _>>().expect("numbers")
}

#[test]
fn a_parent_death_signal_comes_at_the_services_end_and_not_at_a_reexec() {
    let mut service = Service::start(&[]);
    let mut client = service.client();
    let start = |client: &mut exitring_protocol::Client, tag: &str| {
        let words = ["setpriv", "--pdeathsig", "KILL", "sleep", "1000"];
        let spawn = Spawn {
            argv: words.map(Into::into).into(),
            tag: tag.into(),
            ..Spawn::default()
        };
        client.spawn(spawn).expect("it starts").pid
    };
    let mut pids = Vec::new();
    for tag in ["first", "second", "third"] {
        pids.push(start(&mut client, tag));
        // The thread that forked it lives as long as the service.
        assert_eq!(forked_by_main_thread(service.process.id()), pids);
        let name = || fs::read_to_string(format!("/proc/{}/comm", pids[pids.len() - 1]));
        eventually("it has asked for the signal", || {
            name().is_ok_and(|name| name.trim() == "sleep")
        });
        kill_process(service.pid(), Signal::USR2).expect("it is alive");
        eventually("the old image's connection ends", || {
            client
                .ask(exitring_protocol::Request::Stats(Default::default()))
                .is_err()
        });
        client = service.client();
        assert_eq!(counts(&mut client).watched, pids.len() as u64);
        assert_eq!(forked_by_main_thread(service.process.id()), pids);
    }
    service.terminate();
    eventually("all have received the signal", || {
        let is_reaped = |pid: &i32| fs::metadata(format!("/proc/{pid}")).is_err();
        pids.iter().all(is_reaped)
    });
}

#[test]
fn inherited_signal_settings_affect_neither_the_service_nor_its_children() {
    use std::os::unix::process::CommandExt;
    let mut service = Service::start(&[]);
    service.terminate();
    let mut command = service.command();
    let ignore_and_block_all = || {
        // SAFETY: no handler is set, and the set is filled before it is used.
        unsafe {
            for signal in 1..=64 {
                libc::signal(signal, libc::SIG_IGN);
            }
            let mut all = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: the closure only makes system calls.
    unsafe { command.pre_exec(ignore_and_block_all) };
    service.process = command.spawn().expect("it starts");
    service.wait_until_it_answers();
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let out = service.directory.path().join("status");
    let spawn = Spawn {
        argv: ["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"]
            .map(Into::into)
            .into(),
        stdout: Some(out.clone()),
        ..Spawn::default()
    };
    client.spawn(spawn).expect("it starts");
    // Its status is known, so SIGCHLD is not ignored.
    assert_eq!(next_record(&mut client).outcome, EXITED_0);
    assert_eq!(
        fs::read_to_string(out).expect("it was written"),
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
    );
    // Signals that a parent ignores on purpose stay ignored: by `nohup`, and in the background of a
    // script.
    for signal in [Signal::HUP, Signal::INT] {
        kill_process(service.pid(), signal).expect("it is alive");
    }
    counts(&mut client);
    service.terminate();
}

#[test]
fn a_stopped_process_can_clean_up_after_its_timeout() {
    let service = Service::start(&[]);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let spawn = Spawn {
        timeout_ms: Some(300),
        grace_ms: Some(1_000_000),
        ..sh("trap 'exit 7' TERM; kill -STOP $$; sleep 1000", "")
    };
    client.spawn(spawn).expect("it starts");
    let record = next_record(&mut client);
    assert!(record.timed_out);
    assert_eq!(record.outcome, Outcome::Exited(7));
}
