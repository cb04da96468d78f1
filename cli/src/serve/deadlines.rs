//! When processes are to be told to end.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use exitring_protocol::Code;
use tokio::sync::Notify;

use super::clock::monotonic_ms;
use super::live::Live;
use super::process;
use super::service::Service;

/// When a signal is tried again that could not be sent for want of a descriptor.
const RETRY_MS: u64 = 100;

/// The time-outs of live watches; one timer for all.
#[derive(Default)]
pub(crate) struct Deadlines {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    queue: BTreeSet<(Instant, u64)>,
    of: HashMap<u64, (Instant, Arc<Live>)>,
}

impl Deadlines {
    /// As the watch has it; nothing if it has none.
    pub(crate) fn add(&self, live: &Arc<Live>) {
        if let Some(at_ms) = live.birth.deadline_ms {
            self.add_in(live, at_ms.saturating_sub(monotonic_ms()));
        }
    }

    /// When the watch is over, so that nothing of it is left.
    pub(crate) fn remove(&self, id: u64) {
        let mut inner = self.lock();
        if let Some((at, _)) = inner.of.remove(&id) {
            inner.queue.remove(&(at, id));
        }
    }

    fn add_in(&self, live: &Arc<Live>, ms: u64) {
        // Past the end of the clock is never.
        let Some(at) = Instant::now().checked_add(Duration::from_millis(ms)) else {
            return;
        };
        let id = live.birth.id;
        let mut inner = self.lock();
        inner.queue.insert((at, id));
        inner.of.insert(id, (at, Arc::clone(live)));
        drop(inner);
        self.changed.notify_one();
    }

    fn take_due(&self) -> Result<Arc<Live>, Option<Instant>> {
        let mut inner = self.lock();
        let Some(&(at, id)) = inner.queue.first() else {
            return Err(None);
        };
        if at > Instant::now() {
            return Err(Some(at));
        }
        inner.queue.pop_first();
        match inner.of.remove(&id) {
            Some((_, live)) => Ok(live),
            None => Err(Some(at)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the signals, for ever.
pub(crate) async fn keep(service: Arc<Service>) {
    let deadlines = Arc::clone(&service.deadlines);
    loop {
        match deadlines.take_due() {
            Ok(live) => strike(&service, &live),
            Err(Some(at)) => tokio::select! {
                () = tokio::time::sleep_until(at.into()) => {}
                () = deadlines.changed.notified() => {}
            },
            Err(None) => deadlines.changed.notified().await,
        }
    }
}

/// `SIGTERM` at first, then `SIGKILL`; to the group if there is one.
fn strike(service: &Service, live: &Arc<Live>) {
    let birth = &live.birth;
    // It has ended by itself, and its record is on its way.
    if process::stat(birth.pid).is_none_or(|stat| stat.state == b'Z') {
        return;
    }
    let first = !live.timed_out();
    let signal = if first { libc::SIGTERM } else { libc::SIGKILL };
    live.set_timed_out(true);
    let sent = service
        .signal(birth, birth.uid, signal, true)
        .or_else(|_| service.signal(birth, birth.uid, signal, false));
    match sent {
        Ok(()) if first => {
            // What is stopped heeds no other signal; what goes on is not harmed by it.
            let _ = service
                .signal(birth, birth.uid, libc::SIGCONT, true)
                .or_else(|_| service.signal(birth, birth.uid, libc::SIGCONT, false));
            add_in(service, live, birth.grace_ms);
        }
        Ok(()) => {}
        // No descriptor at this moment: as if the time had not come.
        Err(error) if error.code == Code::Exhausted => {
            live.set_timed_out(!first);
            add_in(service, live, RETRY_MS);
        }
        Err(error) if first => {
            tracing::warn!(watch = birth.id, %error, "a time-out could not be kept");
        }
        Err(_) => {}
    }
}

fn add_in(service: &Service, live: &Arc<Live>, after_ms: u64) {
    service.deadlines.add_in(live, after_ms);
    // Over meanwhile: then nobody else takes it out.
    if !service.registry.has(live.birth.id) {
        service.deadlines.remove(live.birth.id);
    }
}
