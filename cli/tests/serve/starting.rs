//! Processes on the way to their program.

use std::process::Command;

use exitring_protocol::{Code, Spawn};

use crate::service::{EXITED_0, Raw, Service, counts, record, refused, sh};

#[test]
fn a_fifo_that_nobody_has_open_holds_up_nothing() {
    let mut service = Service::start(&[]);
    let fifo = service.folder.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("there is mkfifo").success());
    let mut client = service.client();
    client.subscribe(0).expect("it may be had");
    // More of them than are started at a time.
    let mut many: Vec<_> = (0..40).map(|_| Raw::connect(&service)).collect();
    for raw in &mut many {
        raw.hello();
        let path = fifo.display();
        raw.say(format!(
            r#"{{"op": "spawn", "argv": ["true"], "stdin": "{path}", "stdout": "{path}"}}"#
        ));
    }
    for raw in &mut many {
        let answer = raw.hear().expect("it answers");
        // Its own standard input has it open for reading, as long as another one's has not ended: either is right.
        assert!(answer["ok"].is_object() || answer["error"]["code"] == "cannot_start");
    }
    drop(many);
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
    let reads = std::iter::repeat_with(|| record(&mut client)).find(|record| record.tag == "reads");
    assert_eq!(reads.expect("it comes").outcome, EXITED_0);
    assert!(counts(&mut client).last_seq > before.last_seq);
    service.kill();
    service.start_again();
    service.terminate();
}

#[test]
fn what_is_started_does_not_inherit_what_whoever_started_the_service_ignores() {
    use std::os::unix::process::CommandExt;
    const SIGNALS: [i32; 5] = [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR2,
    ];
    let mut service = Service::start(&[]);
    service.terminate();
    let mut command = service.command();
    let ignore = || {
        for signal in SIGNALS {
            // SAFETY: no handler is set.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        Ok(())
    };
    // SAFETY: it makes system calls only.
    unsafe { command.pre_exec(ignore) };
    service.process = command.spawn().expect("it starts");
    service.wait_until_it_answers();
    let mut client = service.client();
    client.subscribe(0).expect("it may be had");
    let status = service.folder.path().join("status");
    let spawn = Spawn {
        argv: ["cat", "/proc/self/status"].map(Into::into).into(),
        stdout: Some(status.clone()),
        ..Spawn::default()
    };
    client.spawn(spawn).expect("it starts");
    assert_eq!(record(&mut client).outcome, EXITED_0);
    let status = std::fs::read_to_string(status).expect("it was written");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.expect("the kernel tells").trim();
    let ignored = u64::from_str_radix(ignored, 16).expect("it is a number");
    for signal in SIGNALS {
        assert_eq!(ignored & (1 << (signal - 1)), 0, "{signal} in {ignored:x}");
    }
}

#[test]
fn a_program_is_looked_for_in_its_own_path_and_a_script_without_a_first_line_is_the_shells() {
    use std::os::unix::fs::PermissionsExt;
    let service = Service::start(&[]);
    let mut client = service.client();
    client.subscribe(0).expect("it may be had");
    let folder = service.folder.path();
    let script = folder.join("its-script");
    std::fs::write(&script, "test \"$1\" = one && exit 0\n").expect("it can be written");
    let spawn = |path: String| Spawn {
        argv: ["its-script", "one"].map(Into::into).into(),
        env: Some([("PATH".to_owned(), path)].into()),
        ..Spawn::default()
    };
    let with_it = || spawn(format!("/nowhere:{}:/bin", folder.display()));
    // It may not be executed.
    assert_eq!(refused(client.spawn(with_it())), Code::CannotStart);
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    client.spawn(with_it()).expect("it starts");
    assert_eq!(record(&mut client).outcome, EXITED_0);
    assert_eq!(
        refused(client.spawn(spawn("/bin".into()))),
        Code::CannotStart
    );
}
