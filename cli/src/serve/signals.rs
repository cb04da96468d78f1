//! The service's signals.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::getpid;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the service is asked by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    ToEnd,
    /// To execute itself anew, in place.
    Anew,
}

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Option<Signal>,
    hangup: Option<Signal>,
    anew: Signal,
}

impl Signals {
    /// Takes them. What was ignored at the start stays so, if it is one that a parent has ignored on purpose: `nohup` SIGHUP, a
    /// shell without job control SIGINT for what it starts in the background.
    pub(super) fn take() -> Result<Self> {
        let ignored = ignored();
        let unless_ignored = |kind: SignalKind| {
            let is_ignored = ignored & (1 << (kind.as_raw_value() - 1)) != 0;
            (!is_ignored).then(|| signal(kind)).transpose()
        };
        let take = || -> std::io::Result<Self> {
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: unless_ignored(SignalKind::interrupt())?,
                hangup: unless_ignored(SignalKind::hangup())?,
                anew: signal(SignalKind::user_defined2())?,
            })
        };
        take().context("taking the signals")
    }

    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::ToEnd,
            () = come(&mut self.interrupt) => Asked::ToEnd,
            () = come(&mut self.hangup) => Asked::ToEnd,
            _ = self.anew.recv() => Asked::Anew,
        }
    }
}

async fn come(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

/// The signals that were ignored when we were started, a bit each (`SigIgn` in `proc(5)`).
fn ignored() -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", getpid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Until there is a handler: a second one must not end what the first one has started.
pub(super) fn ignore_sigusr2() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
}

/// Whoever started us may have blocked what we heed, and ignored SIGCHLD, so that children would leave no status.
pub(super) fn undo_what_the_parent_left() {
    // SAFETY: no handler is installed, and no other thread of ours is there yet; an all-zero set is an empty one.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}
