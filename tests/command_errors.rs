//! Commands that cannot be started: a typed error names the cause, and no process and no descriptor
//! is left.

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use common::*;
use exitring::{Command, Resource, Scheduling, SetupStep, SpawnError, Stdio, Watcher};

/// Starts the command, which must fail, and checks that nothing is left of it.
#[track_caller]
fn failure(command: &mut Command) -> SpawnError {
    // Descriptors and children are counted, so the test has its own process.
    assert!(in_own_process());
    let watcher = Watcher::new().unwrap();
    // Pipes are closed too.
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let before = open_descriptors();
    let error = watcher.spawn(command).unwrap_err();
    assert_eq!(open_descriptors(), before, "{error:?}");
    // SAFETY: a null pointer.
    let child = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
    assert_eq!(child, -1, "a child is left: {error:?}");
    assert_eq!(watcher.stats().watched, 0);
    error
}

#[track_caller]
fn setup_failure(command: &mut Command, step: SetupStep, text: &str) {
    let error = failure(command);
    let SpawnError::Setup { step: failed, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*failed, step, "{error:?}");
    assert!(!error.is_throttling());
    let message = message(error);
    assert!(message.contains(text), "{message:?} without {text:?}");
}

#[track_caller]
fn invalid(command: &mut Command, text: &str) {
    let error = failure(command);
    assert!(matches!(error, SpawnError::Invalid { .. }), "{error:?}");
    let message = message(error);
    assert!(message.contains(text), "{message:?} without {text:?}");
}

/// A new directory, which the test removes at its end.
fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("exitring-{name}-{}", std::process::id()));
    fs::create_dir(&path).unwrap();
    path
}

fn write_file(path: &PathBuf, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn files_that_are_no_programs() {
    if !in_own_process() {
        return run_in_own_process("files_that_are_no_programs", |_| ());
    }
    let directory = directory("programs");
    let file = |name: &str, text: &str, mode| {
        let path = directory.join(name);
        write_file(&path, text, mode);
        path
    };
    let missing = [
        OsStr::new("no-such-program-in-path"),
        OsStr::new("/no/such/program"),
        OsStr::new(""),
        OsStr::new("./relative"),
    ];
    for program in missing {
        for current_dir in [None, Some(&directory)] {
            let mut command = Command::new(program);
            if let Some(path) = current_dir {
                command.current_dir(path);
            }
            let error = failure(&mut command);
            assert!(matches!(error, SpawnError::NotFound { .. }), "{error:?}");
        }
    }
    let denied = [
        file("no-execute-bit", "#!/bin/sh\n", 0o644),
        directory.clone(),
        file("no-program", "text without a first line\n", 0o755),
        file("empty", "", 0o755),
    ];
    for program in denied {
        let error = failure(&mut Command::new(&program));
        assert!(
            matches!(error, SpawnError::NotExecutable { .. }),
            "{error:?}"
        );
        assert!(message(error).contains("may not be executed"));
    }
    let script = file("no-interpreter", "#! /no/such/interpreter -x\n", 0o755);
    let mut by_path = Command::new(&script);
    let mut by_name = Command::new("no-interpreter");
    let mut relative = Command::new("./no-interpreter");
    by_name.env("PATH", format!("/nowhere:{}:/bin", directory.display()));
    relative.current_dir(&directory);
    for command in [&mut by_path, &mut by_name, &mut relative] {
        let error = failure(command);
        let SpawnError::NoInterpreter { interpreter, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(interpreter.to_str(), Some("/no/such/interpreter"));
        assert!(message(error).contains("/no/such/interpreter"));
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn strings_that_the_kernel_cannot_take() {
    if !in_own_process() {
        return run_in_own_process("strings_that_the_kernel_cannot_take", |_| ());
    }
    invalid(&mut Command::new("a\0b"), "NUL");
    invalid(Command::new("true").arg("a").arg("b\0"), "argument 2");
    invalid(Command::new("true").arg0("\0"), "NUL");
    invalid(Command::new("true").env("A", "\0"), "\"A\"");
    invalid(Command::new("true").env("", "x"), "no name");
    invalid(Command::new("true").env("A=B", "x"), "no name");
    invalid(Command::new("true").env("A\0", "x"), "no name");
    invalid(Command::new("true").current_dir("/\0"), "NUL");
    invalid(Command::new("true").current_dir(""), "empty");
    // Not UTF-8 is fine.
    let watcher = Watcher::new().unwrap();
    let mut command = Command::new("true");
    command
        .arg(OsStr::from_bytes(b"\xff"))
        .env("A", OsStr::from_bytes(b"\xfe"));
    assert!(
        watcher
            .spawn(&mut command)
            .unwrap()
            .wait()
            .unwrap()
            .success()
    );
}

#[test]
fn arguments_that_are_too_large() {
    if !in_own_process() {
        return run_in_own_process("arguments_that_are_too_large", |_| ());
    }
    let sizes = |error: &SpawnError| match error {
        SpawnError::ArgumentsTooLarge {
            bytes, limit, one, ..
        } => (*bytes, *limit, *one),
        other => panic!("{other:?}"),
    };
    let page = rustix::param::page_size();
    let longest = "x".repeat(32 * page - 1);
    let error = failure(Command::new("true").arg(format!("{longest}x")));
    assert_eq!(
        sizes(&error),
        (32 * page as u64 + 1, 32 * page as u64, true)
    );
    assert!(message(error).contains("an argument or environment variable"));
    let mut many = Command::new("true");
    many.env_clear().args(std::iter::repeat_n(&longest, 200));
    let error = failure(&mut many);
    let (bytes, limit, one) = sizes(&error);
    assert!(bytes > limit && limit >= 128 << 10 && !one, "{error:?}");
    // What is within the limits is started.
    let watcher = Watcher::new().unwrap();
    let mut command = Command::new("true");
    assert!(
        watcher
            .spawn(command.arg(&longest))
            .unwrap()
            .wait()
            .unwrap()
            .success()
    );
}

#[test]
fn attributes_that_cannot_be_set() {
    if !in_own_process() {
        return run_in_own_process("attributes_that_cannot_be_set", |_| ());
    }
    let directory = directory("attributes");
    let file = directory.join("file");
    write_file(&file, "", 0o644);
    let gone = directory.join("gone");
    let of_directory = |path: &PathBuf, text| {
        setup_failure(
            Command::new("true").current_dir(path),
            SetupStep::CurrentDir,
            text,
        );
    };
    of_directory(&gone, "gone\": No such file");
    of_directory(&file, "file\": Not a directory");
    let dir_fd = File::open("/dev/null").unwrap();
    let too_high = descriptor_limit().min(i32::MAX as u64) as i32;
    setup_failure(
        Command::new("true").descriptor(too_high, dir_fd),
        SetupStep::Descriptor,
        "RLIMIT_NOFILE",
    );
    setup_failure(
        Command::new("true").limit(Resource::OpenFiles, Some(10), Some(9)),
        SetupStep::Limit,
        "RLIMIT_NOFILE",
    );
    setup_failure(
        Command::new("true").soft_limit(Resource::OpenFiles, None),
        SetupStep::Limit,
        "RLIMIT_NOFILE",
    );
    setup_failure(
        Command::new("true").process_group(1),
        SetupStep::ProcessGroup,
        "process group",
    );
    setup_failure(
        Command::new("true").scheduling(Scheduling::Fifo(100)),
        SetupStep::Scheduling,
        "scheduling",
    );
    setup_failure(
        Command::new("true").cpu_affinity([]),
        SetupStep::Affinity,
        "available",
    );
    setup_failure(
        Command::new("true")
            .stdin(File::open("/dev/null").unwrap())
            .controlling_terminal(0),
        SetupStep::ControllingTerminal,
        "descriptor 0",
    );
    setup_failure(
        Command::new("true").ignored_signals([libc::SIGKILL]),
        SetupStep::Signals,
        "signal 9",
    );
    fs::remove_dir_all(directory).unwrap();
}

/// A descriptor that somebody has closed behind its owner's back.
fn closed_descriptor() -> OwnedFd {
    // SAFETY: the number is not in use, and the value is forgotten before anything closes it.
    unsafe { OwnedFd::from_raw_fd(61) }
}

#[test]
fn descriptors_that_are_closed_or_collide() {
    if !in_own_process() {
        return run_in_own_process("descriptors_that_are_closed_or_collide", |_| ());
    }
    let null = || File::open("/dev/null").unwrap();
    invalid(
        Command::new("true")
            .descriptor(5, null())
            .descriptor(5, null()),
        "twice",
    );
    invalid(
        Command::new("true").descriptor(1, null()),
        "stdin, stdout and stderr",
    );
    invalid(Command::new("true").descriptor(-1, null()), "-1");
    let mut command = Command::new("true");
    command.descriptor(5, closed_descriptor());
    setup_failure(
        &mut command,
        SetupStep::Descriptor,
        "descriptor 5: Bad file descriptor",
    );
    // Its drop would abort this process, because the descriptor is not open.
    std::mem::forget(command);
}

#[test]
fn numbers_that_do_not_exist() {
    if !in_own_process() {
        return run_in_own_process("numbers_that_do_not_exist", |_| ());
    }
    invalid(Command::new("true").ignored_signals([0]), "no signal 0");
    invalid(Command::new("true").blocked_signals([65]), "no signal 65");
    invalid(Command::new("true").parent_death_signal(-1), "no signal -1");
    invalid(Command::new("true").uid(u32::MAX), "no number of a user");
    invalid(
        Command::new("true").groups([u32::MAX]),
        "no number of a user",
    );
    invalid(
        Command::new("true").cpu_affinity([1 << 20]),
        "no CPU 1048576",
    );
}

#[test]
fn attributes_that_need_privileges() {
    if !in_own_process() {
        return run_in_own_process("attributes_that_need_privileges", |_| ());
    }
    if rustix::process::geteuid().is_root() {
        // The descriptors of proc stay readable.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
            .unwrap();
        let nobody = rustix::thread::Uid::from_raw(65534);
        // SAFETY: bare system calls, which change all threads.
        unsafe {
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
            assert_eq!(libc::setuid(nobody.as_raw()), 0);
        }
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
            .unwrap();
    }
    setup_failure(Command::new("true").uid(0), SetupStep::Uid, "CAP_SETUID");
    setup_failure(
        Command::new("true").gid(12345),
        SetupStep::Gid,
        "CAP_SETGID",
    );
    setup_failure(
        Command::new("true").groups([0]),
        SetupStep::Groups,
        "CAP_SETGID",
    );
    setup_failure(
        Command::new("true").nice(-20),
        SetupStep::Nice,
        "CAP_SYS_NICE",
    );
    setup_failure(
        Command::new("true").oom_score_adj(-1000),
        SetupStep::OomScoreAdj,
        "CAP_SYS_RESOURCE",
    );
    setup_failure(
        Command::new("true").scheduling(Scheduling::Fifo(1)),
        SetupStep::Scheduling,
        "CAP_SYS_NICE",
    );
    let hard = descriptor_limit();
    setup_failure(
        Command::new("true").limit(Resource::OpenFiles, Some(1), Some(hard + 1)),
        SetupStep::Limit,
        "CAP_SYS_RESOURCE",
    );
}

#[test]
fn no_descriptor_is_free() {
    if !in_own_process() {
        return run_in_own_process("no_descriptor_is_free", lower_descriptor_limit);
    }
    let watcher = Watcher::new().unwrap();
    let mut filler = take_all_descriptors();
    let mut command = Command::new("true");
    // The identity of a child needs no descriptor.
    let child = watcher.spawn(&mut command).unwrap();
    assert!(child.wait().unwrap().success());
    let error = watcher.spawn(command.stdout(Stdio::piped())).unwrap_err();
    assert!(matches!(error, SpawnError::NoDescriptors(_)), "{error:?}");
    assert!(error.is_throttling() && message(error).contains("RLIMIT_NOFILE"));
    // The child opens it.
    let error = watcher.spawn(Command::new("true").stdin(Stdio::null()));
    assert!(
        matches!(error, Err(SpawnError::NoDescriptors(_))),
        "{error:?}"
    );
    filler.truncate(filler.len() - 3);
    assert!(
        watcher
            .spawn(&mut command)
            .unwrap()
            .wait()
            .unwrap()
            .success()
    );
}
