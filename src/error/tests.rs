//! Each error in turn: its message is not empty, and does not repeat its source's.

use std::collections::HashSet;
use std::error::Error;
use std::io;
use std::mem::discriminant;

use super::*;
use crate::{CgroupError, InvalidBackend, Pid, ProcessLimit, Unknown};

fn assert_says_it_once(error: &dyn Error) {
    let text = error.to_string();
    assert!(!text.is_empty(), "{error:?}");
    if let Some(source) = error.source() {
        let cause = source.to_string();
        assert!(
            !text.contains(&cause),
            "{text:?} has its source's {cause:?}"
        );
        assert_says_it_once(source);
    }
}

/// Of an error type, every variant: one that is missing does not compile, or leaves a value too few.
macro_rules! every {
    ($($pattern:pat => $value:expr),* $(,)?) => {{
        let all = [$($value),*];
        let mut variants = HashSet::new();
        for error in &all {
            match error {
                $($pattern => {})*
            }
            assert!(variants.insert(discriminant(error)), "{error:?} is there twice");
            assert_says_it_once(error);
        }
    }};
}

fn system() -> SystemError {
    let source = io::Error::from_raw_os_error(libc::EIO);
    SystemError {
        call: "openat",
        source,
    }
}

fn errno() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

fn watch() -> WatchError {
    WatchError::TooMany { limit: 1 }
}

fn pid() -> Pid {
    Pid::new(7).expect("it is positive")
}

#[test]
fn no_message_repeats_that_of_its_source() {
    let program = || std::ffi::OsString::from("sh");
    let process_limit = || ProcessLimit::Cgroup {
        max: 1,
        file: "pids.max".into(),
    };
    every! {
        Closed::Dropped => Closed::Dropped,
        Closed::RingThreadDied => Closed::RingThreadDied,
        Closed::ForkedChild => Closed::ForkedChild,
    }
    every! {
        NoDescriptors::Process { .. } => NoDescriptors::Process { limit: 1 },
        NoDescriptors::Machine => NoDescriptors::Machine,
    }
    every! {
        BuildError::Option { .. } => BuildError::Option { option: "workers", value: 2, min: 0, max: 1 },
        BuildError::Variable { .. } => BuildError::Variable { variable: "NAME", value: "x".into() },
        BuildError::IoUringDenied { .. } => BuildError::IoUringDenied { errno: 1, remedy: "none" },
        BuildError::IoUringTooOld { .. } => BuildError::IoUringTooOld { missing: "it" },
        BuildError::PidfdDenied { .. } => BuildError::PidfdDenied { errno: 1 },
        BuildError::NoDescriptors(_) => NoDescriptors::Machine.into(),
        BuildError::OutOfMemory => BuildError::OutOfMemory,
        BuildError::Thread(_) => BuildError::Thread(errno()),
        BuildError::NoSubreaper => BuildError::NoSubreaper,
        BuildError::System(_) => system().into(),
    }
    every! {
        WatchError::InvalidPid(_) => InvalidPid(0).into(),
        WatchError::NoSuchProcess { .. } => WatchError::NoSuchProcess { pid: pid() },
        WatchError::Thread { .. } => WatchError::Thread { pid: pid() },
        WatchError::NotAPidfd => WatchError::NotAPidfd,
        WatchError::ThreadPidfd => WatchError::ThreadPidfd,
        WatchError::Unsupported => WatchError::Unsupported,
        WatchError::Reaped => WatchError::Reaped,
        WatchError::NoDescriptors(_) => NoDescriptors::Machine.into(),
        WatchError::OutOfMemory => WatchError::OutOfMemory,
        WatchError::PidfdDenied { .. } => WatchError::PidfdDenied { errno: 1 },
        WatchError::TooMany { .. } => watch(),
        WatchError::Closed(_) => Closed::Dropped.into(),
        WatchError::System(_) => system().into(),
    }
    every! {
        WaitError::Closed(_) => WaitError::Closed(Closed::Dropped),
        WaitError::WouldDeadlock => WaitError::WouldDeadlock,
    }
    every! {
        OutputError::Wait(_) => OutputError::Wait(WaitError::WouldDeadlock),
        OutputError::Read(_) => OutputError::Read(errno()),
    }
    every! {
        ForkError::Refused(_) => ForkError::Refused(watch()),
        ForkError::Fork(_) => ForkError::Fork(errno()),
        ForkError::Watch(_) => ForkError::Watch(system().into()),
    }
    every! {
        SpawnError::Refused(_) => SpawnError::Refused(watch()),
        SpawnError::NotFound { .. } => SpawnError::NotFound { program: program(), source: errno() },
        SpawnError::NotExecutable { .. } => SpawnError::NotExecutable { program: program(), source: errno() },
        SpawnError::NoInterpreter { .. } => SpawnError::NoInterpreter {
            program: program(),
            interpreter: "/no/such/interpreter".into(),
            source: errno(),
        },
        SpawnError::ArgumentsTooLarge { .. } => SpawnError::ArgumentsTooLarge {
            program: program(),
            bytes: 3,
            limit: 2,
            one: true,
            source: errno(),
        },
        SpawnError::Setup { .. } => SpawnError::Setup {
            step: SetupStep::Uid,
            what: "change to the user 1".into(),
            source: errno(),
        },
        SpawnError::Invalid { .. } => SpawnError::Invalid {
            program: program(),
            reason: "argument 1 contains a NUL".into(),
        },
        SpawnError::Cgroup(_) => SpawnError::Cgroup(CgroupError::NotMounted),
        SpawnError::NoProcesses(_) => SpawnError::NoProcesses(process_limit()),
        SpawnError::NoDescriptors(_) => NoDescriptors::Machine.into(),
        SpawnError::OutOfMemory => SpawnError::OutOfMemory,
        SpawnError::Other { .. } => SpawnError::Other { program: program(), source: errno() },
        SpawnError::Watch(_) => SpawnError::Watch(watch()),
    }
    every! {
        ProcessLimit::Cgroup { .. } => process_limit(),
        ProcessLimit::UserOrMachine { .. } => ProcessLimit::UserOrMachine {
            nproc: None,
            pid_max: Some(1),
            threads_max: None,
        },
    }
    every! {
        SignalError::Exited => SignalError::Exited,
        SignalError::NoGroup => SignalError::NoGroup,
        SignalError::NoSuchSignal(_) => SignalError::NoSuchSignal(99),
        SignalError::Denied => SignalError::Denied,
        SignalError::NoCgroup => SignalError::NoCgroup,
        SignalError::Cgroup(_) => CgroupError::NotMounted.into(),
        SignalError::Closed(_) => Closed::Dropped.into(),
        SignalError::System(_) => system().into(),
    }
    every! {
        AddError::Full { .. } => AddError::Full { capacity: 1 },
        AddError::Closed(_) => AddError::Closed(Closed::Dropped),
    }
    every! {
        RecvError::Closed(_) => RecvError::Closed(Closed::Dropped),
        RecvError::WouldDeadlock => RecvError::WouldDeadlock,
    }
    every! {
        RecvTimeoutError::Timeout => RecvTimeoutError::Timeout,
        RecvTimeoutError::Closed(_) => RecvTimeoutError::Closed(Closed::Dropped),
        RecvTimeoutError::WouldDeadlock => RecvTimeoutError::WouldDeadlock,
    }
    every! {
        TryRecvError::Empty => TryRecvError::Empty,
        TryRecvError::Closed(_) => TryRecvError::Closed(Closed::Dropped),
    }
    every! {
        Unknown::NotAChild => Unknown::NotAChild,
        Unknown::ReapedElsewhere => Unknown::ReapedElsewhere,
        Unknown::SigchldIgnored => Unknown::SigchldIgnored,
        Unknown::NoDescriptor(_) => Unknown::NoDescriptor(libc::EMFILE),
    }
    let wrong: Result<crate::Backend, InvalidBackend> = "kqueue".parse();
    assert_says_it_once(&wrong.expect_err("it is none"));
    assert_says_it_once(&InvalidPid(0));
    assert_says_it_once(&system());
    assert_eq!(system().errno(), Some(libc::EIO));
}

#[test]
fn a_child_that_was_not_adopted_is_given_back_with_the_reason() {
    let child = std::process::Command::new("true")
        .spawn()
        .expect("it starts");
    let id = child.id();
    let error = AdoptError {
        child: Box::new(child),
        source: watch(),
    };
    assert_says_it_once(&error);
    assert!(matches!(error.reason(), WatchError::TooMany { limit: 1 }));
    let (mut child, _) = error.into_parts();
    assert_eq!(child.id(), id);
    assert!(child.wait().is_ok_and(|status| status.success()));
}
