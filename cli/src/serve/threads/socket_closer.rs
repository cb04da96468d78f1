//! The thread that closes refused connections.
//!
//! The kernel closes with a connection what was sent on it and not received. If that includes a
//! socket that lingers (`SO_LINGER`), the close takes as long as its client likes. No permit limits
//! how many connections are refused, so none of them may take long: a signal ends that wait, and a
//! timer sends one to this thread every millisecond.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::{io, mem, ptr, thread};

use rustix::thread::gettid;

/// The signal of the timer.
const SIGNAL: i32 = libc::SIGALRM;
const INTERVAL_NS: i64 = 1_000_000;

/// Sends sockets to the thread.
pub(crate) struct SocketCloser(Sender<OwnedFd>);

impl SocketCloser {
    pub(crate) fn start() -> io::Result<Self> {
        let (sockets, queue) = mpsc::channel();
        handle_signal()?;
        thread::Builder::new()
            .name("exitring-refuse".into())
            .spawn(move || run(&queue))?;
        Ok(Self(sockets))
    }

    pub(crate) fn close(&self, socket: OwnedFd) {
        // The thread lives as long as this handle.
        let _ = self.0.send(socket);
    }
}

fn run(queue: &Receiver<OwnedFd>) {
    let timer = Timer::of_this_thread();
    if let Err(error) = &timer {
        tracing::warn!(%error, "there is no timer; closing a refused connection may take long");
    }
    while let Ok(first) = queue.recv() {
        if let Ok(timer) = &timer {
            timer.set(INTERVAL_NS);
        }
        drop(first);
        queue.try_iter().for_each(drop);
        if let Ok(timer) = &timer {
            timer.set(0);
        }
    }
}

/// Handles the signal, so that it interrupts. An exec and each child reset that.
fn handle_signal() -> io::Result<()> {
    extern "C" fn ignore(_: i32) {}
    // SAFETY: the handler does nothing, and zeroes are a valid mask and valid flags.
    let result = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(i32) as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(SIGNAL, &raw const action, ptr::null_mut())
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A timer that sends the signal to one thread. The end of the process deletes it.
struct Timer(libc::timer_t);

impl Timer {
    fn of_this_thread() -> io::Result<Self> {
        // SAFETY: zeroes are a valid event, and both pointers are to live values.
        unsafe {
            let mut event: libc::sigevent = mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = SIGNAL;
            event.sigev_notify_thread_id = gettid().as_raw_nonzero().get();
            let mut timer = mem::zeroed();
            match libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) {
                0 => Ok(Self(timer)),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }

    /// Sets the interval. Zero stops the timer.
    fn set(&self, interval_ns: i64) {
        let interval = libc::timespec {
            tv_sec: 0,
            tv_nsec: interval_ns as _,
        };
        let times = libc::itimerspec {
            it_interval: interval,
            it_value: interval,
        };
        // SAFETY: the timer exists, and the pointer is to a live value. No argument is invalid, so
        // this does not fail.
        unsafe { libc::timer_settime(self.0, 0, &raw const times, ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use rustix::net::sockopt::set_socket_linger;

    use super::*;

    #[test]
    fn a_socket_that_lingers_for_an_hour_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has one");
        let mut socket = TcpStream::connect(address).expect("it accepts input");
        let _peer = listener.accept().expect("it connects");
        socket.set_nonblocking(true).expect("it succeeds");
        while socket.write(&[0; 65536]).is_ok() {}
        set_socket_linger(&socket, Some(Duration::from_secs(3600))).expect("it succeeds");
        let closer = SocketCloser::start().expect("a thread can be started");
        closer.close(socket.into());
        // Closed after it, so that its end is seen.
        let (end, peer) = std::os::unix::net::UnixStream::pair().expect("descriptors are free");
        closer.close(end.into());
        peer.set_read_timeout(Some(Duration::from_secs(30)))
            .expect("it is a valid timeout");
        let read = io::Read::read(&mut &peer, &mut [0]);
        assert_eq!(read.expect("the thread goes on"), 0);
    }
}
