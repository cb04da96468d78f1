//! `exitring watch`: have the service watch processes, and print their ends.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use exitring_protocol::{Client, Moment, Notice, Outcome, Watch};

use super::{WatchOptions, print};
use crate::code;
use crate::diagnostics::say;

pub(crate) fn watch(options: &WatchOptions) -> Result<u8> {
    let place = &options.place;
    let connect = || {
        Client::connect(&place.socket, place.client.as_deref())
            .with_context(|| format!("connecting to {}", place.socket.display()))
    };
    // One to ask, one to listen: what comes while we ask has its own line to wait in.
    let (mut asking, mut listening) = (connect()?, connect()?);
    // From the end of the log on: before the first watch, so none of ours is missed.
    listening.subscribe(u64::MAX)?;
    let mut waiting = BTreeSet::new();
    let mut failed = false;
    for pid in &options.pids {
        let watch = Watch {
            pid: Some(*pid),
            tag: options.tag.clone(),
            until: match options.reaped {
                true => Moment::Reaped,
                false => Moment::Exited,
            },
        };
        match asking.watch(watch) {
            Ok(watched) => _ = waiting.insert(watched.watch),
            Err(error) => {
                say(&format!("exitring: watching {pid}: {error}\n"));
                failed = true;
            }
        }
    }
    let mut bad = false;
    while !waiting.is_empty() {
        match listening.notice().context("waiting for exits")? {
            Notice::Exit(record) if waiting.remove(&record.watch) => {
                bad |= !matches!(record.outcome, Outcome::Exited(0) | Outcome::Unknown(_));
                if !print(&serde_json::to_string(&record)?)? {
                    break;
                }
            }
            // Somebody else's; and what was lost is older than ours.
            Notice::Exit(_) | Notice::Lost(_) | Notice::CaughtUp(_) => {}
        }
    }
    let code = match (failed, bad) {
        (true, _) => code::USAGE,
        (false, true) => code::SOME_FAILED,
        (false, false) => code::OK,
    };
    Ok(code)
}
