//! A thread with an io_uring, and an `IORING_OP_WAITID` (Linux 6.7) for each child, which reaps it.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use exitring::Pid;
use io_uring::types::Fd;
use io_uring::{IoUring, Probe, opcode, squeue};
use rustix::event::{EventfdFlags, eventfd};

use super::Contestant;
use crate::tally::{Delivery, Tally};

const ENTRIES: u32 = 256;
const BELL: u64 = u64::MAX;

struct Shared {
    /// Handed in and not submitted.
    new: Mutex<Vec<(Pid, usize)>>,
    bell: OwnedFd,
}

pub(crate) struct UringWaitid {
    shared: Arc<Shared>,
}

impl UringWaitid {
    pub(crate) fn new(tally: Arc<Tally>) -> Result<Self> {
        let shared = Arc::new(Shared {
            new: Mutex::default(),
            bell: eventfd(0, EventfdFlags::CLOEXEC).context("creating an eventfd")?,
        });
        let for_thread = Arc::clone(&shared);
        let (built, when_built) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("uring-waitid".into())
            .spawn(move || match ring() {
                Ok(ring) => {
                    let _ = built.send(Ok(()));
                    // Ends with the process only; what goes wrong shows as lost exits.
                    if let Err(error) = run(ring, &for_thread, &tally) {
                        eprintln!("loadgen: the io_uring of uring-waitid: {error}");
                    }
                }
                Err(error) => drop(built.send(Err(error))),
            })
            .context("starting a thread")?;
        when_built.recv().context("the ring thread ended")??;
        Ok(Self { shared })
    }
}

/// One child that is waited for. The kernel writes into it until its completion.
struct Wait {
    pid: Pid,
    index: usize,
    info: libc::siginfo_t,
}

/// Why it cannot be had here, if it cannot.
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
        "IORING_OP_WAITID takes Linux 6.7"
    );
    Ok(ring)
}

fn run(mut ring: IoUring, shared: &Shared, tally: &Tally) -> io::Result<()> {
    let mut rung = 0_u64;
    let bell = opcode::Read::new(Fd(shared.bell.as_raw_fd()), (&raw mut rung).cast(), 8);
    let bell = bell.build().user_data(BELL);
    push(&mut ring, &bell)?;
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
            if token != BELL {
                // SAFETY: the address of a box that was let go of below, and completed once.
                let wait = unsafe { Box::from_raw(token as *mut Wait) };
                let delivery = Delivery::begin(wait.index);
                // SAFETY: filled in by the kernel for a child.
                let status = unsafe { wait.info.si_status() };
                let exited = result == 0 && wait.info.si_code == libc::CLD_EXITED;
                delivery.end(tally, wait.pid, exited.then_some(status));
                continue;
            }
            let new = mem::take(&mut *shared.new.lock().unwrap_or_else(PoisonError::into_inner));
            for (pid, index) in new {
                // SAFETY: all zero is a valid siginfo.
                let info = unsafe { mem::zeroed() };
                let wait = Box::into_raw(Box::new(Wait { pid, index, info }));
                // SAFETY: the box is ours until it is handed to the kernel.
                let info = unsafe { &raw mut (*wait).info };
                let entry = opcode::WaitId::new(libc::P_PID, pid.as_raw() as u32, libc::WEXITED)
                    .infop(info.cast_const())
                    .build()
                    .user_data(wait as u64);
                push(&mut ring, &entry)?;
            }
            push(&mut ring, &bell)?;
        }
    }
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    loop {
        // SAFETY: what the entry points to lives until its completion: boxes let go of, and a
        // counter on the stack of a function that only returns on an error, with the ring.
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
        // Nobody to wake if something is waiting to be taken already.
        if new.len() == 1 {
            rustix::io::write(&self.shared.bell, &1_u64.to_ne_bytes())?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        while !self
            .shared
            .new
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
        {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // Taken, and submitted as soon as the thread has done with that.
        std::thread::sleep(std::time::Duration::from_millis(50));
        Ok(())
    }
}
