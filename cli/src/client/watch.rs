//! `exitring watch`: registers watches at the service, and prints the records of their exits.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use exitring_protocol::{Client, Notice, Outcome, Watch, WatchFor};

use super::{WatchOptions, print};
use crate::code;
use crate::failure::{Failure, chain};

pub(crate) fn watch(options: &WatchOptions) -> Result<u8> {
    let service = &options.service;
    let connect = || {
        Client::connect(&service.socket, service.client.as_deref())
            .with_context(|| format!("connecting to {}", service.socket.display()))
    };
    // One connection for requests and one for records, so that records never queue in front of
    // answers.
    let (mut requests, mut records) = (connect()?, connect()?);
    // From the end of the log on, and before the first watch, so that no record of it is missed.
    records.subscribe(u64::MAX)?;
    let mut waiting = BTreeSet::new();
    let mut failed = false;
    for pid in &options.pids {
        let watch = Watch {
            pid: Some(*pid),
            tag: options.tag.clone(),
            until: match options.reaped {
                true => WatchFor::Reaped,
                false => WatchFor::Exited,
            },
        };
        match requests.watch(watch) {
            Ok(watched) => _ = waiting.insert(watched.watch),
            Err(error) => {
                Failure::usage(format!("cannot watch {pid}: {}", chain(&error))).report();
                failed = true;
            }
        }
    }
    let mut bad = false;
    while !waiting.is_empty() {
        match records.notice().context("waiting for exits")? {
            Notice::Exit(record) if waiting.remove(&record.watch) => {
                bad |= !matches!(record.outcome, Outcome::Exited(0) | Outcome::Unknown(_));
                if !print(&serde_json::to_string(&record)?)? {
                    break;
                }
            }
            // Of another client; lost records are older than these watches.
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
