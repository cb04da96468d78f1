//! The supervisor's link with the thread of the queue.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::lease::FromRun;
use super::prepare::Prepared;
use super::publication::Shared;
use super::thread::{Parts, Thread};
use crate::failure::Failure;
use crate::queue::connection::{Connection, runtime};
use crate::queue::error::QueueError;
use crate::queue::model::record_message::{encode, origin};
use crate::run::job::Job;
use crate::run::output_tail::OutputTail;
use crate::run::report::record::Record;
use crate::run::schedule::admission::Admission;
use crate::run::schedule::event_queue::{Event, EventQueue};
use crate::run::signals::Signals;

/// How long results have to be stored after a request to end, at least.
const PATIENCE_MIN: Duration = Duration::from_secs(2);

/// The link.
pub(crate) struct QueueLink {
    sender: UnboundedSender<FromRun>,
    worker: String,
    host: String,
    /// The largest message that the server accepts.
    limit: usize,
    /// Readable when the thread has ended.
    ended: UnixStream,
}

impl QueueLink {
    /// Starts the thread of the queue.
    pub(crate) fn start(
        prepared: Prepared,
        admission: Arc<Admission>,
        event_queue: Arc<EventQueue>,
    ) -> Result<Self, Failure> {
        let system = |what| move |error: io::Error| QueueError::System { what, error };
        let (sender, from_run) = unbounded_channel();
        let (ended, thread_end) = UnixStream::pair().map_err(system("create a pair of sockets"))?;
        let link = Self {
            sender: sender.clone(),
            worker: prepared.worker.clone(),
            host: prepared.host.clone(),
            limit: prepared.limit,
            ended,
        };
        let work = move || {
            let guard = EndGuard {
                admission: Arc::clone(&admission),
                event_queue: Arc::clone(&event_queue),
                failure: None,
            };
            work(
                prepared,
                guard,
                admission,
                event_queue,
                sender,
                from_run,
                thread_end,
            );
        };
        let thread = thread::Builder::new().name("queue".into()).spawn(work);
        thread.map_err(system("start a thread"))?;
        Ok(link)
    }

    /// Passes on the result of a job.
    pub(crate) fn finish(&self, job: &Job, record: &Record<'_>, output: Option<&OutputTail>) {
        let lease = job
            .details
            .as_ref()
            .and_then(|details| details.lease.as_ref());
        let Some(lease) = lease else { return };
        let origin = origin(job, &self.worker, &self.host, lease.delivery, lease.lost);
        let message = encode(record, &origin, output, self.limit);
        lease.settle(record.success, record.interrupted, message);
    }

    /// Waits until all results are stored. They have `grace` for that if they are `limited`, as
    /// after a request to end. After another request they have no time.
    pub(crate) fn close(self, signals: &mut Signals, mut limited: bool, grace: Duration) {
        let grace = grace.max(PATIENCE_MIN);
        // The thread has ended if it does not receive this.
        let _ = self.sender.send(FromRun::Close(limited.then_some(grace)));
        loop {
            let mut waits_for = [
                PollFd::from_borrowed_fd(self.ended.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            ];
            match poll(&mut waits_for, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            if !waits_for[0].revents().is_empty() {
                return;
            }
            match (signals.shutdown_requested(), limited) {
                (false, _) => {}
                (true, true) => return,
                (true, false) => {
                    limited = true;
                    let _ = self.sender.send(FromRun::Close(Some(grace)));
                }
            }
        }
    }
}

fn work(
    prepared: Prepared,
    mut guard: EndGuard,
    admission: Arc<Admission>,
    event_queue: Arc<EventQueue>,
    sender: UnboundedSender<FromRun>,
    from_run: tokio::sync::mpsc::UnboundedReceiver<FromRun>,
    ended: UnixStream,
) {
    let work = async {
        let connection = Connection::open(&prepared.address, &prepared.login).await?;
        let names = connection.names();
        let shared = Shared {
            connection,
            names,
            buffer: std::cell::RefCell::default(),
            refusal: std::cell::RefCell::default(),
        };
        let parts = Parts {
            shared: std::rc::Rc::new(shared),
            spec: prepared.spec,
            looks_up_all: prepared.looks_up_all,
            worker: prepared.worker,
            host: prepared.host,
            admission,
            event_queue,
            sender,
            from_run,
            _ended: ended,
        };
        Thread::new(parts).run().await;
        Ok(())
    };
    let done: Result<(), QueueError> = runtime().and_then(|runtime| runtime.block_on(work));
    guard.failure = Some(done.map_err(Failure::from));
}

/// Ends the input of the run when the thread ends, also by a panic, which would be a bug: the run
/// must not wait for jobs forever.
struct EndGuard {
    admission: Arc<Admission>,
    event_queue: Arc<EventQueue>,
    failure: Option<Result<(), Failure>>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        let panicked = || Err(Failure::resource("the thread of the queue panicked"));
        if let Err(failure) = self.failure.take().unwrap_or_else(panicked) {
            self.event_queue.push(Event::CannotContinue(failure));
        }
        self.admission.end_input();
        self.event_queue.set_readable();
    }
}
