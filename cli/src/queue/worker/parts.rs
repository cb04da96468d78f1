//! What the thread of the queue is made of.

use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::lease::FromRun;
use super::publication::Shared;
use crate::queue::model::run_spec::RunSpec;
use crate::run::schedule::admission::Admission;
use crate::run::schedule::event_queue::EventQueue;

/// What the thread needs.
pub(super) struct Parts {
    pub(super) shared: Rc<Shared>,
    pub(super) spec: RunSpec,
    /// The consumer may have forgotten which jobs are done.
    pub(super) looks_up_all: bool,
    /// How often the consumer was recreated before.
    pub(super) recreations: u64,
    /// The server at the start.
    pub(super) server_id: String,
    pub(super) worker: String,
    pub(super) host: String,
    pub(super) admission: Arc<Admission>,
    pub(super) event_queue: Arc<EventQueue>,
    pub(super) sender: UnboundedSender<FromRun>,
    pub(super) from_run: UnboundedReceiver<FromRun>,
    /// Results that are not stored yet.
    pub(super) not_stored: Arc<AtomicUsize>,
    /// Where jobs write their logs (`--log nats`). It is removed before the end of the thread is seen.
    pub(super) _logs: Option<TempDir>,
    /// Closed at the end of the thread.
    pub(super) _ended: UnixStream,
}
