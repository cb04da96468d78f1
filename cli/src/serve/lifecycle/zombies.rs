//! Gives up on zombies that nothing reaps.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use exitring_protocol::{Outcome, Unknown};

use crate::serve::service::Service;
use crate::serve::store::ProcessExit;
use crate::serve::sys::clock::now_ms;
use crate::serve::sys::process;

/// How often zombies are looked for.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// In how many checks in a row a zombie is found before its exit is recorded.
const CHECKS_MAX: u32 = 2;

/// Records the exit of processes that a killed service left behind, and that their new parent does
/// not reap. Never returns.
pub(crate) async fn run(service: Arc<Service>) {
    let mut found: HashMap<u64, u32> = HashMap::new();
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let orphans = service
            .registry
            .all()
            .into_iter()
            .filter(|live| live.is_orphan);
        let zombies = orphans.filter(|live| {
            let stat = process::stat(live.info.pid).ok().flatten();
            stat.is_some_and(|stat| stat.has_ended() && stat.start_ticks == live.info.start_ticks)
        });
        let mut now = HashMap::new();
        for live in zombies {
            let id = live.info.id;
            let checks = found.get(&id).copied().unwrap_or(0) + 1;
            now.insert(id, checks);
            // Once: the writer keeps an exit that it cannot store yet.
            if checks == CHECKS_MAX {
                let outcome = Outcome::Unknown(Unknown::NotReaped);
                service
                    .store
                    .exit(ProcessExit::new(live, outcome, None, now_ms()));
            }
        }
        found = now;
    }
}
