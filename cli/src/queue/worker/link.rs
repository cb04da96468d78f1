//! The supervisor's link with the thread of the queue.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::buffer::Buffer;
use super::lease::{FromRun, JobEnd};
use super::log_upload::Logs;
use super::parts::Parts;
use super::prepare::Prepared;
use super::publication::{SENDING_MAX, Shared};
use super::thread::Thread;
use crate::diagnostics::say;
use crate::failure::Failure;
use crate::queue::connection::{Connection, runtime};
use crate::queue::error::QueueError;
use crate::queue::model::record_message::{encode, origin};
use crate::run::REQUEST_WINDOW;
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
    /// Results that are not stored yet.
    not_stored: Arc<AtomicUsize>,
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
            not_stored: Arc::default(),
            ended,
        };
        let not_stored = Arc::clone(&link.not_stored);
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
                (sender, from_run),
                not_stored,
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

    /// Waits until all results are stored. After a request to end they have the `grace` for that;
    /// `limited`: there was a request, or the ends of jobs cannot be learned any more. After another
    /// request they have no time. `requested`: when the last request came.
    pub(crate) fn close(
        self,
        signals: &mut Signals,
        limited: bool,
        requested: Option<Instant>,
        grace: Duration,
    ) {
        if !self.are_stored(signals, limited, requested, grace) {
            // The thread is stuck or has no time. The process does not wait for it.
            let left = self.not_stored.load(Ordering::Acquire);
            if left > 0 {
                say(&not_stored(left));
            }
        }
    }

    fn are_stored(
        &self,
        signals: &mut Signals,
        mut limited: bool,
        mut requested: Option<Instant>,
        grace: Duration,
    ) -> bool {
        let grace = grace.max(STORE_TIMEOUT_MIN);
        // The thread has ended if it does not receive this.
        let _ = self.sender.send(FromRun::Close(limited.then_some(grace)));
        let mut deadline = limited.then(|| deadline(grace));
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut waits_for = [
                PollFd::from_borrowed_fd(self.ended.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            ];
            match poll(&mut waits_for, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
            if !waits_for[0].revents().is_empty() {
                return true;
            }
            if !signals.shutdown_requested() {
                continue;
            }
            let is_same = requested.is_some_and(|last| last.elapsed() < REQUEST_WINDOW);
            match (is_same, requested.is_some()) {
                (true, _) => {}
                (false, true) => return false,
                (false, false) => {
                    requested = Some(Instant::now());
                    if !limited {
                        limited = true;
                        deadline = Some(self::deadline(grace));
                        let _ = self.sender.send(FromRun::Close(Some(grace)));
                    }
                }
            }
        }
    }
}

/// The message about results that are lost.
pub(super) fn not_stored(results: usize) -> String {
    let (results, run) = match results {
        1 => ("1 result".into(), "this job runs"),
        _ => (format!("{results} results"), "these jobs run"),
    };
    format!("{results} could not be stored: {run} again on another worker\n")
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
    (sender, from_run): (UnboundedSender<FromRun>, UnboundedReceiver<FromRun>),
    not_stored: Arc<AtomicUsize>,
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
            sending: Semaphore::new(SENDING_MAX),
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
            recreations: prepared.before.recreations,
            server_id,
            worker: prepared.worker,
            host: prepared.host,
            admission,
            event_queue,
            sender,
            from_run,
            not_stored,
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
