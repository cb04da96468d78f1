//! Notifications to systemd: readiness, the watchdog, and the pidfds to keep over a restart.
//! Without systemd (`NOTIFY_SOCKET`) these functions do nothing.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use exitring_protocol::Code;
use sd_notify::NotifyState;
use tokio::task::spawn_blocking;

use super::inherited::stored_name;
use crate::serve::service::Service;

/// How long the end of the service waits for systemd to receive the pidfds.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// Held for a sequence of notifications: a request to remove pidfds must not come after one to
/// store them.
static SEQUENCE: Mutex<()> = Mutex::new(());

/// Only for threads that may block: if systemd does not read, sending blocks once its queue has
/// net.unix.max_dgram_qlen messages.
fn notify<'a>(states: impl IntoIterator<Item = Vec<NotifyState<'a>>>) {
    let _sequence = SEQUENCE.lock().unwrap_or_else(PoisonError::into_inner);
    for state in states {
        if let Err(error) = sd_notify::notify(&state) {
            tracing::warn!(%error, "systemd cannot be notified");
            return;
        }
    }
}

/// Reports readiness, removes the pidfds in `stored` from systemd's store, and then feeds the
/// watchdog as long as the writer responds. Returns only without a watchdog.
pub(crate) async fn run(service: Arc<Service>, stored: Vec<u64>) {
    let ready = spawn_blocking(move || {
        notify([vec![NotifyState::Ready]]);
        remove_pidfds(stored);
    });
    let _ = ready.await;
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return;
    };
    loop {
        // A request through the writer that deletes nothing. An error about a full disk is an
        // answer, too.
        let answer = service.store.forget(0).await;
        // `Stopping` means that there is no writer.
        if answer.map_or_else(|error| error.code != Code::Stopping, |_| true) {
            let _ = spawn_blocking(|| notify([vec![NotifyState::Watchdog]])).await;
        }
        tokio::time::sleep(interval / 3).await;
    }
}

/// Reports that the service is stopping. Does not wait.
pub(crate) fn stopping() {
    drop(spawn_blocking(|| notify([vec![NotifyState::Stopping]])));
}

/// Stores the pidfds of live watches in systemd. After a restart they report the status of
/// processes that have ended meanwhile.
pub(crate) fn store_pidfds(service: &Arc<Service>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let service = Arc::clone(service);
    let (done, wait) = mpsc::channel();
    let thread = thread::Builder::new()
        .name("exitring-notify".into())
        .spawn(move || done.send(store_all(&service)));
    if let Err(error) = thread {
        tracing::warn!(%error, "no thread for storing pidfds in systemd");
        return;
    }
    match wait.recv_timeout(STORE_TIMEOUT) {
        Ok(count) => tracing::info!(count, "stored the pidfds of live watches in systemd"),
        Err(_) => {
            tracing::warn!(?STORE_TIMEOUT, "systemd did not receive the pidfds in time");
        }
    }
}

/// Returns how many pidfds were sent.
fn store_all(service: &Service) -> usize {
    let _sequence = SEQUENCE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut count = 0;
    for live in service.registry.all() {
        let Ok(Some(pidfd)) = live.info.open_pidfd() else {
            continue;
        };
        let name = stored_name(live.info.id);
        // Without FDPOLL=0 systemd closes a pidfd when its process ends, which is when it is
        // needed.
        let state = [
            NotifyState::FdStore,
            NotifyState::FdName(&name),
            NotifyState::Custom("FDPOLL=0"),
        ];
        match sd_notify::notify_with_fds(&state, &[pidfd.as_fd()]) {
            Ok(()) => count += 1,
            Err(error) => {
                tracing::warn!(%error, count, "only some pidfds could be stored in systemd");
                break;
            }
        }
    }
    count
}

/// Removes pidfds from systemd's store: the service has its own now, or the processes have ended.
fn remove_pidfds(stored: Vec<u64>) {
    let names: Vec<_> = stored.into_iter().map(stored_name).collect();
    let remove = |name| vec![NotifyState::FdStoreRemove, NotifyState::FdName(name)];
    notify(names.iter().map(|name| remove(name)));
}
