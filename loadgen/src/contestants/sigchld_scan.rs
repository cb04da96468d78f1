//! SIGCHLD, and a `waitpid(pid, WNOHANG)` of every child on each signal, as libuv does. Pending
//! signals merge into one, so a signal does not identify the child.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use exitring::Pid;
use rustix::event::{EventfdFlags, eventfd};

use super::contestant::Contestant;
use crate::measure::recorder::{Delivery, Recorder, exit_code};
use crate::measure::spawn_request::SpawnRequest;

type Children = Mutex<Vec<(Pid, usize)>>;

pub(crate) struct SigchldScan {
    children: Arc<Children>,
}

/// The eventfd that the handler writes to. It counts signals that arrive during a scan.
static WAKEUP: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_sigchld(_: libc::c_int) {
    let one = 1_u64;
    // SAFETY: write is async-signal-safe, and the buffer is live. The errno of the interrupted code
    // is restored.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(WAKEUP.load(Ordering::Relaxed), (&raw const one).cast(), 8);
        *libc::__errno_location() = errno;
    }
}

impl SigchldScan {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Result<Self> {
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC).context("creating an eventfd")?;
        WAKEUP.store(wakeup.as_raw_fd(), Ordering::Relaxed);
        let handler: extern "C" fn(libc::c_int) = on_sigchld;
        // SAFETY: a zeroed sigaction is valid. The handler makes one system call.
        let installed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART | libc::SA_NOCLDSTOP;
            libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut())
        };
        ensure!(installed == 0, "installing the handler for SIGCHLD failed");
        let children: Arc<Children> = Arc::default();
        let for_thread = Arc::clone(&children);
        std::thread::Builder::new()
            .name("sigchld-scan".into())
            .spawn(move || run(&wakeup, &for_thread, &recorder))
            .context("starting a thread")?;
        Ok(Self { children })
    }
}

fn run(wakeup: &OwnedFd, children: &Children, recorder: &Recorder) {
    let mut counter = [0; 8];
    loop {
        if rustix::io::read(wakeup, &mut counter).is_ok() {
            scan(children, recorder);
        }
    }
}

fn scan(children: &Children, recorder: &Recorder) {
    let mut children = children.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ended = Vec::new();
    children.retain(|&(pid, index)| {
        let mut status = 0;
        // SAFETY: the pointer is to a live integer.
        let reaped = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::WNOHANG) };
        if reaped == pid.as_raw() {
            ended.push((pid, index, status));
        }
        reaped == 0
    });
    drop(children);
    // The scan is complete before the first callback runs.
    for (pid, index, status) in ended {
        Delivery::begin(index).end(recorder, pid, exit_code(status));
    }
}

impl Contestant for SigchldScan {
    fn watch(&mut self, pid: Pid, index: usize) -> Result<()> {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.push((pid, index));
        Ok(())
    }

    fn spawn(&mut self, request: &SpawnRequest) -> Result<Option<Pid>> {
        // The list is locked before the child starts, so that the scan after its exit finds it
        // there.
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = Pid::try_from(request.command().spawn()?.id())?;
        children.push((pid, request.index()));
        Ok(Some(pid))
    }
}
