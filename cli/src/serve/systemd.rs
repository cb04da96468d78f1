//! What systemd is told: that we are ready, that we live, and what it is to keep over a restart. All of it is nothing when it
//! did not start us.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use exitring_protocol::Code;
use sd_notify::NotifyState;
use tokio::task::spawn_blocking;

use super::inherited::stored_name;
use super::service::{Service, identified};

/// How long our end waits for systemd to take the pidfds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whoever speaks, to the end: what is to be forgotten must not come after what is to be kept.
static VOICE: Mutex<()> = Mutex::new(());

/// Only for threads that may block: who does not read what it is told (its queue takes net.unix.max_dgram_qlen) is waited for.
fn tell<'a>(states: impl IntoIterator<Item = Vec<NotifyState<'a>>>) {
    let _voice = VOICE.lock().unwrap_or_else(PoisonError::into_inner);
    for state in states {
        if let Err(error) = sd_notify::notify(&state) {
            tracing::warn!(%error, "systemd cannot be told");
            return;
        }
    }
}

/// Says that we are ready and what it need not keep any more; then that we live, as often as it wants to hear, as long as the
/// writer can be asked and answers. For ever.
pub(super) async fn keep_informed(service: Arc<Service>, stored: Vec<u64>) {
    let begun = spawn_blocking(move || {
        tell([vec![NotifyState::Ready]]);
        forget_pidfds(stored);
    });
    let _ = begun.await;
    let Some(every) = sd_notify::watchdog_enabled() else {
        return;
    };
    loop {
        // It goes through the writer, and strikes out nothing; a disk that is full is an answer, too.
        let answer = service.store.forget(0).await;
        // Without a writer there is no answer, and no life.
        if answer.map_or_else(|error| error.code != Code::Stopping, |_| true) {
            let _ = spawn_blocking(|| tell([vec![NotifyState::Watchdog]])).await;
        }
        tokio::time::sleep(every / 3).await;
    }
}

/// Says that we end. Nobody needs to wait until it is said.
pub(super) fn stopping() {
    drop(spawn_blocking(|| tell([vec![NotifyState::Stopping]])));
}

/// Has it keep the pidfds of live watches: what ends while we are down can be asked for its status when we are back.
pub(super) fn store_pidfds(service: &Arc<Service>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let service = Arc::clone(service);
    let (done, wait) = mpsc::channel();
    let teller = thread::Builder::new()
        .name("exitring-notify".into())
        .spawn(move || done.send(store_all(&service)));
    if let Err(error) = teller {
        tracing::warn!(%error, "no thread to tell systemd of pidfds");
        return;
    }
    match wait.recv_timeout(PATIENCE) {
        Ok(count) => tracing::info!(count, "systemd keeps the pidfds of live watches"),
        Err(_) => tracing::warn!(?PATIENCE, "systemd does not take the pidfds in time"),
    }
}

/// How many it was told to keep.
fn store_all(service: &Service) -> usize {
    let _voice = VOICE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut count = 0;
    for live in service.registry.all() {
        let Ok(Some(pidfd)) = identified(&live.birth) else {
            continue;
        };
        let name = stored_name(live.birth.id);
        // It would let go of each when its process ends, which is when it is wanted.
        let state = [
            NotifyState::FdStore,
            NotifyState::FdName(&name),
            NotifyState::Custom("FDPOLL=0"),
        ];
        match sd_notify::notify_with_fds(&state, &[pidfd.as_fd()]) {
            Ok(()) => count += 1,
            Err(error) => {
                tracing::warn!(%error, count, "systemd keeps only some pidfds");
                break;
            }
        }
    }
    count
}

/// Has it close what it kept: all is taken back, or has ended.
fn forget_pidfds(stored: Vec<u64>) {
    let names: Vec<_> = stored.into_iter().map(stored_name).collect();
    let forget = |name| vec![NotifyState::FdStoreRemove, NotifyState::FdName(name)];
    tell(names.iter().map(|name| forget(name)));
}
