//! The children of a soak. They exit at once, or wait for a signal.

use std::io;

use anyhow::{Context, Result};
use exitring::Pid;

#[derive(Clone, Copy)]
pub(super) enum Life {
    Exit(i32),
    /// Waits until a signal kills it.
    Pause,
}

pub(super) fn fork(life: Life) -> Result<Pid> {
    // SAFETY: the child makes only system calls.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: as above. The handlers of the parent must not run here; once they are reset, the
        // child can receive the signals.
        unsafe {
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                libc::signal(signal, libc::SIG_DFL);
            }
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if let Life::Exit(code) = life {
                libc::_exit(code);
            }
            let mut none = std::mem::MaybeUninit::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
            loop {
                libc::pause();
            }
        }
    }
    if pid < 0 {
        return Err(io::Error::last_os_error()).context("forking a child");
    }
    Ok(Pid::new(pid)?)
}

/// Waits until the child has ended, without reaping it.
pub(super) fn wait_for_zombie(pid: Pid) {
    let options = libc::WEXITED | libc::WNOWAIT;
    // SAFETY: the only pointer is null.
    while unsafe {
        libc::waitid(
            libc::P_PID,
            pid.as_raw() as u32,
            std::ptr::null_mut(),
            options,
        )
    } != 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

/// Blocks all signals in this thread and its children. Ctrl-C is handled by another thread.
pub(super) fn block_signals() {
    let mut all = std::mem::MaybeUninit::uninit();
    // SAFETY: the first call initialises the set.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut());
    }
}
