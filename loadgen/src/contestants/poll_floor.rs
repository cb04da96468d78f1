//! The lower bound of a watcher with one-shot polls in an io_uring: one thread that waits in the
//! ring, and a callback that reaps. With a worker the thread passes each exit to a second thread at
//! once, which reaps. A reap includes the usage, which exitring reports with each exit. Nothing else
//! is done: no signals, deadlines, or handles.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use exitring::Pid;
use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{PidfdFlags, pidfd_open};

use super::contestant::Contestant;
use super::registration;
use crate::measure::recorder::{Delivery, Recorder, exit_code};

const ENTRIES: u32 = 256;
const WAKEUP: u64 = u64::MAX;
const CLOSED: u64 = u64::MAX - 1;

struct Shared {
    /// Children that are not polled yet.
    new: Mutex<Vec<(Pid, OwnedFd, usize)>>,
    wakeup: OwnedFd,
}

pub(crate) struct PollFloor {
    shared: Arc<Shared>,
}

impl PollFloor {
    pub(crate) fn new(with_worker: bool, recorder: Arc<Recorder>) -> Result<Self> {
        let shared = Arc::new(Shared {
            new: Mutex::default(),
            wakeup: eventfd(0, EventfdFlags::CLOEXEC).context("creating an eventfd")?,
        });
        let worker = match with_worker {
            true => Some(worker(Arc::clone(&recorder))?),
            false => None,
        };
        let deliver = move |pid, index| match &worker {
            // The worker lives as long as the sender.
            Some(worker) => drop(worker.send((pid, index))),
            None => reap_and_record(&recorder, pid, index),
        };
        let for_thread = Arc::clone(&shared);
        let (built, when_built) = channel();
        std::thread::Builder::new()
            .name("poll-floor".into())
            .spawn(move || match ring() {
                Ok(ring) => {
                    let _ = built.send(Ok(()));
                    // The thread runs until the process ends. An error shows as lost exits.
                    if let Err(error) = run(ring, &for_thread, deliver) {
                        eprintln!("loadgen: the io_uring of poll-floor failed: {error}");
                    }
                }
                Err(error) => drop(built.send(Err(error))),
            })
            .context("starting a thread")?;
        when_built.recv().context("the ring thread ended")??;
        Ok(Self { shared })
    }
}

fn reap_and_record(recorder: &Recorder, pid: Pid, index: usize) {
    let delivery = Delivery::begin(index);
    let code = reap_with_usage(pid);
    delivery.end(recorder, pid, code);
}

/// Reaps a child that has ended, and returns its exit code.
fn reap_with_usage(pid: Pid) -> Option<i32> {
    let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::uninit());
    // SAFETY: the pointers are to a live integer and a live structure.
    let reaped = unsafe {
        libc::wait4(
            pid.as_raw(),
            &raw mut status,
            libc::WNOHANG,
            usage.as_mut_ptr(),
        )
    };
    (reaped == pid.as_raw())
        .then(|| exit_code(status))
        .flatten()
}

fn worker(recorder: Arc<Recorder>) -> Result<Sender<(Pid, usize)>> {
    let (sender, receiver): (_, Receiver<(Pid, usize)>) = channel();
    std::thread::Builder::new()
        .name("worker".into())
        .spawn(move || {
            for (pid, index) in receiver {
                reap_and_record(&recorder, pid, index);
            }
        })
        .context("starting a thread")?;
    Ok(sender)
}

/// The reason why the contestant cannot run here, if there is one.
pub(super) fn missing() -> Option<String> {
    ring().err().map(|error| format!("{error:#}"))
}

fn ring() -> Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(4096)
        .build(ENTRIES)
        .context("setting up an io_uring")
}

fn run(mut ring: IoUring, shared: &Shared, deliver: impl Fn(Pid, usize)) -> io::Result<()> {
    let poll = |fd: i32| opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32);
    let wakeup = poll(shared.wakeup.as_raw_fd()).multi(true).build();
    push(&mut ring, &wakeup.user_data(WAKEUP))?;
    let mut ended = Vec::new();
    loop {
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        ended.extend(ring.completion().map(|entry| entry.user_data()));
        for token in ended.drain(..) {
            match token {
                CLOSED => {}
                WAKEUP => {
                    let mut new = shared.new.lock().unwrap_or_else(PoisonError::into_inner);
                    for (pid, pidfd, index) in std::mem::take(&mut *new) {
                        let token = (index as u64) << 32 | pid.as_raw() as u64;
                        push(&mut ring, &poll(pidfd.as_raw_fd()).build().user_data(token))?;
                        let close = opcode::Close::new(Fd(pidfd.into_raw_fd())).build();
                        push(&mut ring, &close.user_data(CLOSED))?;
                    }
                }
                token => {
                    let pid = Pid::new(token as u32 as i32).map_err(io::Error::other)?;
                    deliver(pid, (token >> 32) as usize);
                }
            }
        }
    }
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    loop {
        // SAFETY: the entries point to no memory. The kernel executes them in order, so the
        // descriptor of a poll is open until its own close.
        if unsafe { ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        ring.submit()?;
    }
}

impl Contestant for PollFloor {
    fn watch(&mut self, pid: Pid, index: usize) -> Result<()> {
        let number = rustix::process::Pid::from_raw(pid.as_raw()).context("pid 0")?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).context("pidfd_open")?;
        let mut new = self
            .shared
            .new
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        new.push((pid, pidfd, index));
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
        // The thread has taken all children, and needs a moment to submit their polls.
        std::thread::sleep(std::time::Duration::from_millis(50));
        Ok(())
    }
}
