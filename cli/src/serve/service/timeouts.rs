//! The task that ends processes which have timed out.

use std::sync::Arc;

use exitring_protocol::Code;

use super::shared::Service;
use crate::serve::sys::clock::monotonic_ms;
use crate::serve::sys::process;
use crate::serve::watches::LiveWatch;

/// When a signal is retried that failed for lack of descriptors.
const RETRY_MS: u64 = 100;

/// Sends the signals until the service stops.
pub(crate) async fn run(service: Arc<Service>) {
    loop {
        let live = tokio::select! {
            live = service.deadlines.next() => live,
            () = service.shutdown.cancelled() => return,
        };
        terminate(&service, &live);
    }
}

/// Sends `SIGTERM` the first time and `SIGKILL` the second time, to the group if there is one. The
/// second time kills all of the cgroup, if the process has one of its own.
fn terminate(service: &Service, live: &Arc<LiveWatch>) {
    let info = &live.info;
    match process::stat(info.pid) {
        Ok(Some(stat)) if !stat.has_ended() => {}
        // It has ended by itself, and its record follows.
        Ok(_) => return,
        // No descriptor is free.
        Err(_) => return add_after(service, live, RETRY_MS),
    }
    let first = !live.timed_out();
    let signal = if first { libc::SIGTERM } else { libc::SIGKILL };
    live.set_timed_out(true);
    let sent = service
        .signal(info, info.uid, signal, true)
        .or_else(|_| service.signal(info, info.uid, signal, false));
    if !first && let Err(error) = live.kill_leaf() {
        tracing::warn!(watch = info.id, %error, "the cgroup of a process that timed out cannot be killed yet; retrying");
        return add_after(service, live, RETRY_MS);
    }
    match sent {
        Ok(()) if first => {
            service.store.terminated(info.id, monotonic_ms());
            // A stopped process handles no other signal. A running one ignores this.
            let _ = service
                .signal(info, info.uid, libc::SIGCONT, true)
                .or_else(|_| service.signal(info, info.uid, libc::SIGCONT, false));
            add_after(service, live, info.grace_ms);
        }
        Ok(()) => {}
        // No descriptor is free: this attempt does not count.
        Err(error) if error.code == Code::Exhausted => {
            live.set_timed_out(!first);
            add_after(service, live, RETRY_MS);
        }
        Err(error) if first => {
            tracing::warn!(watch = info.id, %error, "a process that timed out could not be signalled");
            // It may be of another user now. Its cgroup can be killed all the same.
            if live.has_leaf() {
                add_after(service, live, info.grace_ms);
            }
        }
        Err(_) => {}
    }
}

fn add_after(service: &Service, live: &Arc<LiveWatch>, after_ms: u64) {
    service.deadlines.add_after(live, after_ms);
    // If the watch has ended meanwhile, nothing else removes this deadline.
    if !service.registry.has(live.info.id) {
        service.deadlines.remove(live.info.id);
    }
}
