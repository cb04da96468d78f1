//! Threads that close descriptors which clients sent without need.
//!
//! Closing the last copy of a client's descriptor can take as long as the client likes: a socket
//! that lingers, or a file on a file system that is a program of the client (FUSE). So threads do
//! it that nothing else waits for.
//!
//! The kernel waits for such a thread before it executes a program or ends the process, and no
//! signal ends a FLUSH of FUSE. So the service does not execute itself again meanwhile
//! ([`DescriptorCloser::is_idle_within`]), and closes its own files before it exits.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use tokio::sync::oneshot;

/// Several, so that one slow close does not delay the others.
const THREADS: usize = 4;
/// How often the end of the closes is looked for.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

struct Job {
    fds: Vec<OwnedFd>,
    done: oneshot::Sender<()>,
    _pending: Pending,
}

/// Sends descriptors to the threads.
pub(crate) struct DescriptorCloser {
    jobs: Sender<Job>,
    pending: Arc<AtomicUsize>,
}

/// Counts a job until it is dropped.
struct Pending(Arc<AtomicUsize>);

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
        let pending = Arc::default();
        Ok(Self { jobs, pending })
    }

    /// Closes descriptors on another thread. The receiver completes when all are closed.
    pub(crate) fn close(&self, fds: Vec<OwnedFd>) -> oneshot::Receiver<()> {
        let (done, closed) = oneshot::channel();
        self.pending.fetch_add(1, Ordering::AcqRel);
        let job = Job {
            fds,
            done,
            _pending: Pending(Arc::clone(&self.pending)),
        };
        // The threads live as long as this handle.
        let _ = self.jobs.send(job);
        closed
    }

    /// How many calls of [`close`](Self::close) have not completed.
    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::Acquire)
    }

    /// What prevents the end of the process, for a message.
    pub(crate) fn stuck(&self) -> String {
        format!(
            "{} connections have sent descriptors whose close does not end; if they are on a FUSE file system, end its program, \
             or write 1 to the file abort of its connection in /sys/fs/fuse/connections",
            self.pending()
        )
    }

    /// Waits until all is closed, but not longer than this. Returns whether it is.
    pub(crate) async fn is_idle_within(&self, timeout: Duration) -> bool {
        let idle = async {
            while self.pending() > 0 {
                tokio::time::sleep(CHECK_INTERVAL).await;
            }
        };
        tokio::time::timeout(timeout, idle).await.is_ok()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn run(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job {
            fds,
            done,
            _pending,
        }) = job
        else {
            return;
        };
        for fd in fds {
            // Without SO_LINGER a socket closes at once. On other files the call fails.
            let _ = rustix::net::sockopt::set_socket_linger(&fd, None);
            drop(fd);
        }
        drop(_pending);
        let _ = done.send(());
    }
}
