//! SIGCHLD, and on each a look at every child with `waitpid(pid, WNOHANG)`, as libuv does: signals that come
//! together are one, so it cannot know which child it was.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use exitring::Pid;
use rustix::event::{EventfdFlags, eventfd};

use super::Contestant;
use crate::start::Start;
use crate::tally::{Delivery, Tally, exit_code};

type Children = Mutex<Vec<(Pid, usize)>>;

pub(crate) struct SigchldScan {
    children: Arc<Children>,
}

/// What the handler writes to; an eventfd, which adds up signals that come while a scan goes on.
static BELL: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_sigchld(_: libc::c_int) {
    let one = 1_u64;
    // SAFETY: write is async-signal-safe, the buffer is live; errno is put back for who is interrupted.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(BELL.load(Ordering::Relaxed), (&raw const one).cast(), 8);
        *libc::__errno_location() = errno;
    }
}

impl SigchldScan {
    pub(crate) fn new(tally: Arc<Tally>) -> Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC).context("creating an eventfd")?;
        BELL.store(bell.as_raw_fd(), Ordering::Relaxed);
        let handler: extern "C" fn(libc::c_int) = on_sigchld;
        // SAFETY: all zero is a valid sigaction; the handler makes one system call.
        let installed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART | libc::SA_NOCLDSTOP;
            libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut())
        };
        ensure!(installed == 0, "no handler for SIGCHLD could be installed");
        let children: Arc<Children> = Arc::default();
        let for_thread = Arc::clone(&children);
        std::thread::Builder::new()
            .name("sigchld-scan".into())
            .spawn(move || run(&bell, &for_thread, &tally))
            .context("starting a thread")?;
        Ok(Self { children })
    }
}

fn run(bell: &OwnedFd, children: &Children, tally: &Tally) {
    let mut rung = [0; 8];
    loop {
        if rustix::io::read(bell, &mut rung).is_ok() {
            scan(children, tally);
        }
    }
}

fn scan(children: &Children, tally: &Tally) {
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
    // First all are looked for, then callbacks run.
    for (pid, index, status) in ended {
        Delivery::begin(index).end(tally, pid, exit_code(status));
    }
}

impl Contestant for SigchldScan {
    fn watch(&mut self, pid: Pid, index: usize) -> Result<()> {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.push((pid, index));
        Ok(())
    }

    fn spawn(&mut self, start: &Start) -> Result<()> {
        // Locked before there is a child: the signal of its end finds it in the list.
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = Pid::try_from(start.command().spawn()?.id())?;
        children.push((pid, start.index()));
        Ok(())
    }
}
