//! Attributes of commands, as the child sees them.

mod common;

use std::fs;

use common::command_output::*;

use exitring::{Command, Outcome, Resource, Scheduling, Stdio, Watcher};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_child_may_lead_a_group_or_a_session() {
    let ids = "cut -d' ' -f5,6 /proc/$$/stat; echo $$";
    let numbers = |text: String| -> Vec<i32> {
        text.split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect()
    };
    let own = numbers(output_of(ids, |_| ()));
    // SAFETY: bare system calls.
    let (group, session) = unsafe { (libc::getpgrp(), libc::getsid(0)) };
    assert_eq!(own[..2], [group, session]);
    let leader = numbers(output_of(ids, |command| {
        command.process_group(0);
    }));
    assert_eq!(leader[..2], [leader[2], session]);
    let session_leader = numbers(output_of(ids, |command| {
        command.session();
    }));
    assert_eq!(session_leader[..2], [session_leader[2], session_leader[2]]);
    // A member of the group of another child.
    let watcher = Watcher::new().unwrap();
    let mut first = Command::new("cat");
    let first = watcher
        .spawn(first.process_group(0).stdin(Stdio::piped()))
        .unwrap();
    let member = numbers(output_of(ids, |command| {
        command.process_group(first.pid().as_raw());
    }));
    assert_eq!(member[0], first.pid().as_raw());
    first.signal_group(libc::SIGKILL).unwrap();
}

#[test]
fn a_child_may_have_a_controlling_terminal() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let Ok(controller) = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
    else {
        return println!("not tested: there are no pseudoterminals");
    };
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let name = name.to_str().unwrap().to_owned();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let terminal = rustix::fs::open(&*name, flags, rustix::fs::Mode::empty()).unwrap();
    // Opening /dev/tty succeeds only with a controlling terminal.
    let text = output_of("tty <&0 && : </dev/tty && echo yes", |command| {
        command.stdin(terminal).controlling_terminal(0);
    });
    assert_eq!(text, format!("{name}\nyes\n"));
    let text = output_of("(: </dev/tty) 2>/dev/null || echo no", |command| {
        command.session();
    });
    assert_eq!(text, "no\n");
}

#[test]
fn limits_priorities_and_masks_are_set() {
    let text = output_of(
        "ulimit -Sn; ulimit -Hn; ulimit -Hc; umask; cat /proc/$$/oom_score_adj",
        |command| {
            command
                .limit(Resource::OpenFiles, Some(99), Some(99))
                .limit(Resource::OpenFiles, Some(20), Some(30))
                .limit(Resource::Core, Some(0), Some(0))
                .umask(0o27)
                .oom_score_adj(900);
        },
    );
    assert_eq!(text, "20\n30\n0\n0027\n900\n");
    let hard = output_of("ulimit -Hn", |_| ());
    let text = output_of("ulimit -Sn; ulimit -Hn", |command| {
        command.soft_limit(Resource::OpenFiles, Some(21));
    });
    assert_eq!(text, format!("21\n{hard}"));
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    assert_ne!(own.trim(), "900", "the value of this process has changed");
    // Fields 19 and 41 of stat: the nice value and the policy.
    let text = output_of("cut -d' ' -f19,41 /proc/$$/stat", |command| {
        command.nice(19).scheduling(Scheduling::Batch);
    });
    assert_eq!(text, format!("19 {}\n", libc::SCHED_BATCH));
    let text = output_of("grep Cpus_allowed_list /proc/$$/status", |command| {
        command.cpu_affinity([0]);
    });
    assert_eq!(text, "Cpus_allowed_list:\t0\n");
    let text = output_of("grep NoNewPrivs /proc/$$/status", |command| {
        command.no_new_privs();
    });
    assert_eq!(text, "NoNewPrivs:\t1\n");
}

#[test]
fn the_user_and_groups_are_set() {
    if !is_root() {
        return println!("not tested: only root changes its user");
    }
    let before = rustix::process::dumpable_behavior().unwrap();
    let ids = "grep -E '^(Uid|Gid|Groups):' /proc/$$/status | tr '\\t' ' '";
    let text = output_of(ids, |command| {
        command.uid(65534).gid(65533).groups([7, 8]);
    });
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    let expected = [
        "Uid: 65534 65534 65534 65534",
        "Gid: 65533 65533 65533 65533",
        "Groups: 7 8",
    ];
    assert_eq!(lines, expected);
    let text = output_of(ids, |command| {
        command.uid(65534);
    });
    assert!(
        text.lines().any(|line| line.trim_end() == "Groups:"),
        "{text}"
    );
    // The kernel clears the flag of the memory that the child shared.
    assert_eq!(rustix::process::dumpable_behavior().unwrap(), before);
    let watcher = Watcher::new().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for program in ["true", "/no/such/program", "true"] {
                    let mut command = Command::new(program);
                    let started = watcher.spawn(command.uid(65534).gid(65534));
                    assert_eq!(started.is_ok(), program == "true");
                }
            });
        }
    });
    assert_eq!(rustix::process::dumpable_behavior().unwrap(), before);
    // SAFETY: bare system calls.
    unsafe { assert_eq!((libc::getuid(), libc::geteuid()), (0, 0)) };
}

/// The mask and the actions in `/proc/PID/status`, as sets of signals.
fn signals(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

#[test]
fn signals_are_blocked_ignored_or_reset() {
    // `cat` changes no signals, unlike a shell.
    let status = |change: &dyn Fn(&mut Command)| {
        let mut command = Command::new("cat");
        command.arg("/proc/self/status").stdout(Stdio::piped());
        change(&mut command);
        output(&mut command)
    };
    let text = status(&|_| ());
    // The test harness, like all Rust programs, ignores SIGPIPE.
    assert_eq!(signals(&text, "SigIgn") & bit(libc::SIGPIPE), 0, "{text}");
    assert_eq!(signals(&text, "SigCgt"), 0, "{text}");
    let text = status(&|command| {
        command
            .blocked_signals([libc::SIGUSR1, 64])
            .ignored_signals([libc::SIGPIPE, libc::SIGHUP, libc::SIGINT])
            .default_signals([libc::SIGINT]);
    });
    assert_eq!(signals(&text, "SigBlk"), bit(libc::SIGUSR1) | bit(64));
    let expected = bit(libc::SIGPIPE) | bit(libc::SIGHUP);
    assert_eq!(
        signals(&text, "SigIgn") & (expected | bit(libc::SIGINT)),
        expected
    );
}

#[test]
fn the_mask_of_the_calling_thread_is_inherited() {
    std::thread::spawn(|| {
        let own = || {
            signals(
                &fs::read_to_string("/proc/thread-self/status").unwrap(),
                "SigBlk",
            )
        };
        // SAFETY: the set is filled before it is used; the mask is that of this thread only.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGUSR2);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        }
        let mut command = Command::new("cat");
        command.arg("/proc/self/status").stdout(Stdio::piped());
        assert_eq!(signals(&output(&mut command), "SigBlk"), bit(libc::SIGUSR2));
        assert_eq!(own(), bit(libc::SIGUSR2), "the mask is restored");
        let watcher = Watcher::new().unwrap();
        watcher
            .spawn(&mut Command::new("/does/not/exist"))
            .unwrap_err();
        assert_eq!(own(), bit(libc::SIGUSR2), "also after a failure");
    })
    .join()
    .unwrap();
}

#[test]
fn the_death_of_the_parent_is_signalled() {
    let watcher = Watcher::new().unwrap();
    let child = std::thread::scope(|scope| {
        let starter = scope.spawn(|| {
            let mut command = Command::new("cat");
            command
                .parent_death_signal(libc::SIGTERM)
                .stdin(Stdio::piped());
            watcher.spawn(&mut command).unwrap()
        });
        starter.join().unwrap()
    });
    // The thread that started it has ended, and the kernel is about to signal that. The child must not
    // end by itself, which it would if its input ended.
    let _stdin = child.stdin.take();
    let exit = child.exited();
    let exit = futures_lite::future::block_on(exit).unwrap();
    assert!(
        matches!(
            exit.outcome(),
            Outcome::Signaled {
                signal: libc::SIGTERM,
                ..
            }
        ),
        "{exit:?}"
    );
}
