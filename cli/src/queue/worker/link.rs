//! The supervisor's link with the thread of the queue.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::buffer::Buffer;
use super::lease::{FromRun, JobEnd};
use super::log_upload::Logs;
use super::parts::Parts;
use super::prepare::Prepared;
use super::publication::Shared;
use super::thread::Thread;
use crate::failure::Failure;
use crate::queue::connection::{Connection, runtime};
use crate::queue::error::QueueError;
use crate::queue::model::record_message::{encode, origin};
use crate::run::job::Job;
use crate::run::output_tail::OutputTail;
use crate::run::report::record::{OutcomeKind, Record};
use crate::run::schedule::admission::Admission;
use crate::run::schedule::event_queue::{Event, EventQueue};
use crate::run::signals::Signals;

/// How much longer the thread has to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// How long results have to be stored after a request to end, at least. It is more than
/// the time for which a request for jobs is open.
const STORE_TIMEOUT_MIN: Duration = Duration::from_secs(4);

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
        let end = match (record.interrupted, record.outcome) {
            (true, OutcomeKind::Unknown) => JobEnd::LeftRunning,
            (true, _) => JobEnd::Interrupted,
            (false, _) if record.success => JobEnd::Succeeded,
            (false, _) => JobEnd::Failed,
        };
        lease.settle(job.attempt, end, message);
    }

    /// Waits until all results are stored. They have `grace` for that if they are `limited`, as
    /// after a request to end. After another request they have no time.
    pub(crate) fn close(self, signals: &mut Signals, mut limited: bool, grace: Duration) {
        let grace = grace.max(STORE_TIMEOUT_MIN);
        // The thread has ended if it does not receive this.
        let _ = self.sender.send(FromRun::Close(limited.then_some(grace)));
        let mut deadline = limited.then(|| deadline(grace));
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                // The thread is stuck, and the process does not wait for it.
                return;
            }
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut waits_for = [
                PollFd::from_borrowed_fd(self.ended.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            ];
            match poll(&mut waits_for, timeout.as_ref()) {
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
                    deadline = Some(self::deadline(grace));
                    let _ = self.sender.send(FromRun::Close(Some(grace)));
                }
            }
        }
    }
}

/// When the thread of the queue is not waited for any more. A grace may be longer than a clock can
/// represent.
fn deadline(grace: Duration) -> Instant {
    Instant::now() + grace.min(Duration::from_secs(24 * 3600)) + END_TIMEOUT
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
        let connection = Connection::open(&prepared.address, &prepared.access).await?;
        let server_id = connection.server_id();
        let looks_up_all = prepared.before.may_be_forgotten(&prepared.spec, &server_id);
        let names = connection.names();
        let shared = Shared {
            connection,
            names,
            id: prepared.spec.id.clone(),
            buffer: Buffer::new(prepared.temporary).into(),
            refusal: std::cell::RefCell::default(),
            logs: prepared
                .logs
                .as_ref()
                .map(|dir| Logs::new(dir.path().into())),
            missing_log: std::cell::RefCell::default(),
            closing: std::cell::Cell::default(),
        };
        let parts = Parts {
            shared: std::rc::Rc::new(shared),
            spec: prepared.spec,
            looks_up_all,
            server_id,
            worker: prepared.worker,
            host: prepared.host,
            admission,
            event_queue,
            sender,
            from_run,
            _logs: prepared.logs,
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
