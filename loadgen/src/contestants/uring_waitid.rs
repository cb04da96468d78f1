//! A thread with an io_uring. An `IORING_OP_WAITID` (Linux 6.7) per child waits for it and reaps
//! it.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use exitring::Pid;
use io_uring::types::Fd;
use io_uring::{IoUring, Probe, opcode, squeue};
use rustix::event::{EventfdFlags, eventfd};

use super::contestant::Contestant;
use super::registration;
use crate::measure::recorder::{Delivery, Recorder};

const ENTRIES: u32 = 256;
const WAKEUP: u64 = u64::MAX;

struct Shared {
    /// Children for which no wait has been submitted yet.
    new: Mutex<Vec<(Pid, usize)>>,
    wakeup: OwnedFd,
}

pub(crate) struct UringWaitid {
    shared: Arc<Shared>,
}

impl UringWaitid {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Result<Self> {
        let shared = Arc::new(Shared {
            new: Mutex::default(),
            wakeup: eventfd(0, EventfdFlags::CLOEXEC).context("creating an eventfd")?,
        });
        let for_thread = Arc::clone(&shared);
        let (built, when_built) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("uring-waitid".into())
            .spawn(move || match ring() {
                Ok(ring) => {
                    let _ = built.send(Ok(()));
                    // The thread runs until the process ends. An error shows as lost exits.
                    if let Err(error) = run(ring, &for_thread, &recorder) {
                        eprintln!("loadgen: the io_uring of uring-waitid failed: {error}");
                    }
                }
                Err(error) => drop(built.send(Err(error))),
            })
            .context("starting a thread")?;
        when_built.recv().context("the ring thread ended")??;
        Ok(Self { shared })
    }
}

/// A wait for one child. The kernel may write into it until the completion.
struct Wait {
    pid: Pid,
    index: usize,
    info: libc::siginfo_t,
}

/// The reason why the contestant cannot run here, if there is one.
pub(super) fn missing() -> Option<String> {
    ring().err().map(|error| format!("{error:#}"))
}

fn ring() -> Result<IoUring> {
    let ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(4096)
        .build(ENTRIES)
        .context("setting up an io_uring")?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    anyhow::ensure!(
        probe.is_supported(opcode::WaitId::CODE),
        "IORING_OP_WAITID needs Linux 6.7 or later"
    );
    Ok(ring)
}

fn run(mut ring: IoUring, shared: &Shared, recorder: &Recorder) -> io::Result<()> {
    let mut counter = 0_u64;
    let wakeup = opcode::Read::new(Fd(shared.wakeup.as_raw_fd()), (&raw mut counter).cast(), 8);
    let wakeup = wakeup.build().user_data(WAKEUP);
    push(&mut ring, &wakeup)?;
    loop {
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let ended: Vec<_> = ring
            .completion()
            .map(|cqe| (cqe.user_data(), cqe.result()))
            .collect();
        for (token, result) in ended {
            if token != WAKEUP {
                // SAFETY: the address of a box that was leaked below. Each completes once.
                let wait = unsafe { Box::from_raw(token as *mut Wait) };
                let delivery = Delivery::begin(wait.index);
                // SAFETY: the kernel filled it in for a child.
                let status = unsafe { wait.info.si_status() };
                let exited = result == 0 && wait.info.si_code == libc::CLD_EXITED;
                delivery.end(recorder, wait.pid, exited.then_some(status));
                continue;
            }
            let new = mem::take(&mut *shared.new.lock().unwrap_or_else(PoisonError::into_inner));
            for (pid, index) in new {
                // SAFETY: a zeroed siginfo is valid.
                let info = unsafe { mem::zeroed() };
                let wait = Box::into_raw(Box::new(Wait { pid, index, info }));
                // SAFETY: only this thread has the pointer until the entry is submitted.
                let info = unsafe { &raw mut (*wait).info };
                let entry = opcode::WaitId::new(libc::P_PID, pid.as_raw() as u32, libc::WEXITED)
                    .infop(info.cast_const())
                    .build()
                    .user_data(wait as u64);
                push(&mut ring, &entry)?;
            }
            push(&mut ring, &wakeup)?;
        }
    }
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    loop {
        // SAFETY: the targets of the entry's pointers live until its completion. They are leaked
        // boxes, and a counter on the stack of a function that drops the ring when it returns.
        if unsafe { ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        ring.submit()?;
    }
}

impl Contestant for UringWaitid {
    fn watch(&mut self, pid: Pid, index: usize) -> Result<()> {
        let mut new = self
            .shared
            .new
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        new.push((pid, index));
        // If the list was not empty, the thread has been woken up already.
        if new.len() == 1 {
            rustix::io::write(&self.shared.wakeup, &1_u64.to_ne_bytes())?;
        }
        Ok(())
    }

    fn wait_until_registered(&mut self) -> Result<()> {
        let is_empty = || {
            let new = self.shared.new.lock();
            new.unwrap_or_else(PoisonError::into_inner).is_empty()
        };
        registration::wait_until(is_empty)?;
        // The thread has taken all children, and needs a moment to submit their waits.
        std::thread::sleep(std::time::Duration::from_millis(50));
        Ok(())
    }
}
