//! Threads that close descriptors which clients sent without need.
//!
//! Closing the last copy of a client's descriptor can take as long as the client likes: a socket
//! that lingers, or a file on a file system that is a program of the client (FUSE). So threads do
//! it that nothing else waits for.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use tokio::sync::oneshot;

/// Several, so that one slow close does not delay the others.
const THREADS: usize = 4;

type Job = (Vec<OwnedFd>, oneshot::Sender<()>);

/// Sends descriptors to the threads.
pub(crate) struct DescriptorCloser(Sender<Job>);

impl DescriptorCloser {
    pub(crate) fn start() -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..THREADS {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name("exitring-close".into())
                .spawn(move || run(&queue))?;
        }
        Ok(Self(jobs))
    }

    /// Closes descriptors on another thread. The receiver completes when all are closed.
    pub(crate) fn close(&self, fds: Vec<OwnedFd>) -> oneshot::Receiver<()> {
        let (done, closed) = oneshot::channel();
        // The threads live as long as this handle.
        let _ = self.0.send((fds, done));
        closed
    }
}

fn run(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((fds, done)) = job else { return };
        for fd in fds {
            // Without SO_LINGER a socket closes at once. On other files the call fails.
            let _ = rustix::net::sockopt::set_socket_linger(&fd, None);
            drop(fd);
        }
        let _ = done.send(());
    }
}
