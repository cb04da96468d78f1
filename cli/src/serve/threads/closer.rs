//! Threads that close what belongs to clients.
//!
//! Closing the last copy of a client's descriptor can take as long as the client likes: a socket
//! that lingers (`SO_LINGER`), or a file on a file system that is a program of the client (FUSE). So
//! threads do it that nothing else waits for.
//!
//! - Descriptors that were received without need: a connection keeps its permit until they are
//!   closed.
//! - Connections that have ended. What was sent on them and not received is dropped by the kernel,
//!   and never gets a number here, so no FLUSH of FUSE is sent for it.
//!
//! A signal ends the wait for a socket that lingers, and a timer sends one to each of these threads
//! every millisecond while it closes. No signal ends a FLUSH, or the write of a FUSE file's dirty pages.
//! The kernel waits for such a thread before it executes a program or ends the process. So the
//! service does not execute itself again meanwhile ([`Closer::is_closed_within`]), and closes its own
//! files before it exits.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use tokio::sync::oneshot;

use super::interrupts::{Interrupts, handle_signal};

/// Several for each kind, so that one slow close does not delay the others.
const THREADS: usize = 4;
/// How often the end of the closes is looked for.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// How many ended connections may wait to be closed before the next one has to wait.
const ENDED_MAX: usize = 64;

enum Work {
    /// Descriptors that were received.
    Foreign(Vec<OwnedFd>),
    /// A connection that has ended. Another owner may close it later: nothing is in it then.
    Ended(Arc<dyn AsFd + Send + Sync>),
}

struct Job {
    work: Work,
    done: oneshot::Sender<()>,
    guard: PendingGuard,
}

/// Sends descriptors to the threads.
pub(crate) struct Closer {
    foreign: Sender<Job>,
    ended: Sender<Job>,
    pending: Arc<Mutex<Pending>>,
}

/// What is not closed yet.
#[derive(Default)]
struct Pending {
    next: u64,
    /// The number of a job, and the user whose descriptors these are.
    jobs: BTreeSet<(u64, u32)>,
    ended: usize,
}

/// A job counts until this is dropped.
struct PendingGuard {
    pending: Arc<Mutex<Pending>>,
    job: (u64, u32),
    is_ended: bool,
}

impl Closer {
    pub(crate) fn start() -> io::Result<Self> {
        handle_signal()?;
        let start = |name: &str| {
            let (jobs, queue) = mpsc::channel();
            let queue = Arc::new(Mutex::new(queue));
            for _ in 0..THREADS {
                let queue = Arc::clone(&queue);
                let thread = thread::Builder::new().name(name.into());
                thread.spawn(move || run(&queue))?;
            }
            io::Result::Ok(jobs)
        };
        Ok(Self {
            foreign: start("exitring-close")?,
            ended: start("exitring-ended")?,
            pending: Arc::default(),
        })
    }

    /// Closes descriptors of a user on another thread. The receiver completes when all are closed.
    pub(crate) fn close(&self, uid: u32, fds: Vec<OwnedFd>) -> oneshot::Receiver<()> {
        let (job, closed) = self.job(uid, Work::Foreign(fds));
        // The threads live as long as this handle.
        let _ = self.foreign.send(job);
        closed
    }

    /// Closes a connection of a user, with what is in it. Waits while many are not closed.
    pub(crate) async fn close_connection(&self, uid: u32, socket: Arc<dyn AsFd + Send + Sync>) {
        while lock(&self.pending).ended >= ENDED_MAX {
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
        let (job, _) = self.job(uid, Work::Ended(socket));
        let _ = self.ended.send(job);
    }

    fn job(&self, uid: u32, work: Work) -> (Job, oneshot::Receiver<()>) {
        let is_ended = matches!(work, Work::Ended(_));
        let (done, closed) = oneshot::channel();
        let mut pending = lock(&self.pending);
        pending.next += 1;
        pending.ended += usize::from(is_ended);
        let job = (pending.next, uid);
        pending.jobs.insert(job);
        drop(pending);
        let guard = PendingGuard {
            pending: Arc::clone(&self.pending),
            job,
            is_ended,
        };
        let job = Job { work, done, guard };
        (job, closed)
    }

    /// What prevents the end of the process, for a message. `None`: nothing.
    pub(crate) fn stuck(&self) -> Option<String> {
        let pending = lock(&self.pending);
        let users: BTreeSet<_> = pending
            .jobs
            .iter()
            .map(|(_, uid)| uid.to_string())
            .collect();
        let users: Vec<_> = users.into_iter().collect();
        (!users.is_empty()).then(|| {
            format!(
                "descriptors that the users {} have sent do not close; if they are on FUSE file systems, end their programs, \
                 or write 1 to the files abort in /sys/fs/fuse/connections (mount -t fusectl none /sys/fs/fuse/connections)",
                users.join(", ")
            )
        })
    }

    /// Waits until all is closed that was sent before this call, but not longer than this. Returns
    /// whether it is.
    pub(crate) async fn is_closed_within(&self, timeout: Duration) -> bool {
        let last = lock(&self.pending).next;
        let closed = async {
            while lock(&self.pending).has_until(last) {
                tokio::time::sleep(CHECK_INTERVAL).await;
            }
        };
        tokio::time::timeout(timeout, closed).await.is_ok()
    }

    /// The same on a thread that may block.
    pub(crate) fn block_until_closed(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let last = lock(&self.pending).next;
        while lock(&self.pending).has_until(last) {
            if deadline <= Instant::now() {
                return false;
            }
            thread::sleep(CHECK_INTERVAL);
        }
        true
    }
}

impl Pending {
    /// Whether a job up to this number is left.
    fn has_until(&self, last: u64) -> bool {
        self.jobs.first().is_some_and(|(first, _)| *first <= last)
    }
}

impl Drop for PendingGuard {
    fn drop(&mut self) {
        let mut pending = lock(&self.pending);
        pending.jobs.remove(&self.job);
        pending.ended -= usize::from(self.is_ended);
    }
}

fn lock(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(queue: &Mutex<Receiver<Job>>) {
    let interrupts = Interrupts::of_this_thread();
    if let Err(error) = &interrupts {
        tracing::warn!(%error, "there is no timer; closing a socket that lingers may take long");
    }
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { work, done, guard }) = job else {
            return;
        };
        let _interrupted = interrupts.as_ref().ok().map(Interrupts::start);
        match work {
            Work::Foreign(fds) => drop(fds),
            Work::Ended(socket) => drop_content(&*socket),
        }
        drop(guard);
        let _ = done.send(());
    }
}

/// Refuses more input on a connection, and drops what is in it: otherwise its client would get
/// ECONNRESET, perhaps before it has read the last line.
fn drop_content(socket: &dyn AsFd) {
    // The kernel checks this and queues a message under one lock.
    let _ = shutdown(socket, Shutdown::Read);
    let mut bytes = [0_u8; 16 * 1024];
    loop {
        // Without space for descriptors the kernel drops them.
        match recv(socket, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((_, 1..)) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use rustix::net::sockopt::set_socket_linger;

    use super::*;

    /// A socket whose close lingers for an hour, and its peer, which does not read.
    fn lingering() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has one");
        let mut socket = TcpStream::connect(address).expect("it accepts input");
        let (peer, _) = listener.accept().expect("it connects");
        socket.set_nonblocking(true).expect("it succeeds");
        while socket.write(&[0; 65536]).is_ok() {}
        set_socket_linger(&socket, Some(Duration::from_secs(3600))).expect("it succeeds");
        (socket.into(), peer)
    }

    #[test]
    fn sockets_that_linger_for_an_hour_are_closed() {
        let closer = Closer::start().expect("threads can be started");
        // More than there are threads.
        let (sockets, _peers): (Vec<_>, Vec<_>) = (0..2 * THREADS).map(|_| lingering()).unzip();
        let closed = sockets
            .into_iter()
            .map(|socket| closer.close(7, vec![socket]));
        for closed in closed.collect::<Vec<_>>() {
            closed.blocking_recv().expect("the threads go on");
        }
        assert_eq!(closer.stuck(), None);
    }

    #[tokio::test]
    async fn the_client_of_an_ended_connection_reads_its_last_line() {
        let closer = Closer::start().expect("threads can be started");
        let (service, mut client) = UnixStream::pair().expect("descriptors are free");
        client.write_all(b"not read\n").expect("it accepts input");
        (&service).write_all(b"last\n").expect("it accepts input");
        closer.close_connection(7, Arc::new(service)).await;
        let mut text = String::new();
        // An unread byte would be an ECONNRESET.
        client.read_to_string(&mut text).expect("it ends");
        assert_eq!(text, "last\n");
        assert!(closer.is_closed_within(Duration::from_secs(30)).await);
    }
}
