//! Closing descriptors that clients have passed and nobody asked for.
//!
//! To close the last copy of somebody's descriptor can take as long as they like: a socket that lingers, a file of a file
//! system that is a program of theirs. So it is done by threads that nobody else waits for.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use tokio::sync::oneshot;

/// Of what nothing makes quick some may be at it for long; others go on beside.
const THREADS: usize = 4;

type Job = (Vec<OwnedFd>, oneshot::Sender<()>);

/// The way to the threads.
pub(crate) struct Closer(Sender<Job>);

impl Closer {
    pub(crate) fn start() -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel();
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..THREADS {
            let inbox = Arc::clone(&inbox);
            thread::Builder::new()
                .name("exitring-close".into())
                .spawn(move || run(&inbox))?;
        }
        Ok(Self(jobs))
    }

    /// Has them closed. Done with, if anybody wants to know, when the receiver hears of it.
    pub(crate) fn close(&self, fds: Vec<OwnedFd>) -> oneshot::Receiver<()> {
        let (done, closed) = oneshot::channel();
        // The threads are there as long as we are.
        let _ = self.0.send((fds, done));
        closed
    }
}

fn run(inbox: &Mutex<Receiver<Job>>) {
    loop {
        let job = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((fds, done)) = job else { return };
        for fd in fds {
            // A socket does not linger then; what is none says so.
            let _ = rustix::net::sockopt::set_socket_linger(&fd, None);
            drop(fd);
        }
        let _ = done.send(());
    }
}
