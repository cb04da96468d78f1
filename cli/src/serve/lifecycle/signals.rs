//! The service's signals.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::getpid;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalRequest {
    Stop,
    /// Execute the service again, in place.
    Reexec,
}

/// The handlers of all signals that the service handles.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Option<Signal>,
    hangup: Option<Signal>,
    reexec: Signal,
}

impl Signals {
    /// Installs the handlers. SIGHUP and SIGINT stay ignored if they are, because a parent ignores
    /// them on purpose: `nohup` SIGHUP, and a shell without job control SIGINT in what it starts in
    /// the background.
    pub(crate) fn install() -> Result<Self> {
        let ignored = ignored();
        let unless_ignored = |kind: SignalKind| {
            let is_ignored = ignored & (1 << (kind.as_raw_value() - 1)) != 0;
            (!is_ignored).then(|| signal(kind)).transpose()
        };
        let install = || -> std::io::Result<Self> {
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: unless_ignored(SignalKind::interrupt())?,
                hangup: unless_ignored(SignalKind::hangup())?,
                reexec: signal(SignalKind::user_defined2())?,
            })
        };
        install().context("installing the signal handlers")
    }

    pub(crate) async fn next(&mut self) -> SignalRequest {
        tokio::select! {
            _ = self.terminate.recv() => SignalRequest::Stop,
            () = receive(&mut self.interrupt) => SignalRequest::Stop,
            () = receive(&mut self.hangup) => SignalRequest::Stop,
            _ = self.reexec.recv() => SignalRequest::Reexec,
        }
    }
}

async fn receive(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

/// The signals that were ignored at the start, one bit each (`SigIgn` in `proc(5)`).
fn ignored() -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", getpid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Ignores SIGUSR2 until there is a handler: a second signal must not kill the image that the first
/// one has executed.
pub(crate) fn ignore_sigusr2() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
}

/// Unblocks all signals, and sets SIGCHLD to its default: if the parent ignored SIGCHLD, children
/// would leave no status.
pub(crate) fn reset_inherited_signals() {
    // SAFETY: no handler is installed, and there is no other thread yet; an all-zero set is empty.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}
