//! `exitring exits`: records, as they are kept or as they come.

use anyhow::{Context, Result, bail};
use exitring_protocol::{Answer, Client, Notice, Request};

use super::{ExitsOptions, print};
use crate::code;

/// Printed records are acknowledged at least so often.
const ACK_EVERY: u64 = 1000;

pub(crate) fn exits(options: &ExitsOptions) -> Result<u8> {
    let place = &options.place;
    let mut client = Client::connect(&place.socket, place.client.as_deref())
        .with_context(|| format!("connecting to {}", place.socket.display()))?;
    let Answer::Stats(stats) = client.ask(Request::Stats(Default::default()))? else {
        bail!("the service has no stats");
    };
    client.subscribe(options.from)?;
    // Whether or not the last is ours to see, an event of our own tells that all before has come: an answer is
    // not sorted behind events, so records are read until there is none for a moment.
    let mut acker = match options.ack {
        true => Some(Client::connect(&place.socket, place.client.as_deref())?),
        false => None,
    };
    let (mut last, mut unacked) = (0, 0);
    if !options.follow {
        client.set_timeout(Some(std::time::Duration::from_millis(300)))?;
    }
    loop {
        if !options.follow && last >= stats.last_seq {
            break;
        }
        match client.notice() {
            Ok(Notice::Exit(record)) => {
                if !print(&serde_json::to_string(&record)?)? {
                    return Ok(code::OK);
                }
                last = record.seq;
                unacked += 1;
            }
            Ok(Notice::Lost(lost)) => eprintln!(
                "exitring: records from {} to {} were dropped unacknowledged ({} in all)",
                lost.from, lost.to, lost.count
            ),
            Err(error) if !options.follow && error.is_timeout() => break,
            Err(error) => return Err(error).context("reading records"),
        }
        if let Some(acker) = &mut acker
            && (unacked >= ACK_EVERY || (options.follow && !client.has_more()))
        {
            acker.ack(last)?;
            unacked = 0;
        }
    }
    if let Some(acker) = &mut acker
        && unacked > 0
    {
        acker.ack(last)?;
    }
    Ok(code::OK)
}
