//! What systemd is told: that we are ready, that we live, and what it is to keep over a restart. All of it is nothing when it
//! did not start us.

use std::os::fd::AsFd;
use std::sync::Arc;

use exitring_protocol::Code;
use sd_notify::NotifyState;

use super::inherited::stored_name;
use super::service::{Service, identified};

pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}

/// Says that we live as often as it wants to hear, as long as the writer can be asked and answers. For ever.
pub(super) async fn keep_the_watchdog(service: Arc<Service>) {
    let Some(every) = sd_notify::watchdog_enabled() else {
        return;
    };
    loop {
        // It goes through the writer, and strikes out nothing; a disk that is full is an answer, too.
        let answer = service.store.forget(0).await;
        // Without a writer there is no answer, and no life.
        if answer.map_or_else(|error| error.code != Code::Stopping, |_| true) {
            tell(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(every / 3).await;
    }
}

/// Has it keep the pidfds of live watches: what ends while we are down can be asked for its status when we are back.
pub(super) fn store_pidfds(service: &Service) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
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
                return;
            }
        }
    }
    tracing::info!(count, "systemd keeps the pidfds of live watches");
}

/// Has it close what it kept: all is taken back, or has ended.
pub(super) fn forget_pidfds(watches: impl IntoIterator<Item = u64>) {
    for watch in watches {
        tell(&[
            NotifyState::FdStoreRemove,
            NotifyState::FdName(&stored_name(watch)),
        ]);
    }
}
