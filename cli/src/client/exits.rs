//! `exitring exits`: records, as they are kept or as they come.

use anyhow::{Context, Result, ensure};
use exitring_protocol::{Client, Notice};

use super::{ExitsOptions, print};
use crate::code;
use crate::diagnostics::say;

/// Printed records are acknowledged at least so often.
const ACK_EVERY: u64 = 1000;

pub(crate) fn exits(options: &ExitsOptions) -> Result<u8> {
    // What is acknowledged is all up to a place, and so also what was before the first that is printed.
    ensure!(
        options.from == 0 || !options.ack,
        "--ack would acknowledge also what is before --from {}, and was not printed; leave out one of them",
        options.from
    );
    let place = &options.place;
    let connect = || {
        Client::connect(&place.socket, place.client.as_deref())
            .with_context(|| format!("connecting to {}", place.socket.display()))
    };
    let mut client = connect()?;
    client.subscribe(options.from)?;
    let mut acker = options.ack.then(connect).transpose()?;
    let (mut last, mut unacked) = (0, 0);
    loop {
        match client.notice().context("reading records")? {
            Notice::Exit(record) => {
                if !print(&serde_json::to_string(&record)?)? {
                    return Ok(code::OK);
                }
                last = record.seq;
                unacked += 1;
            }
            Notice::Lost(lost) => say(&format!(
                "exitring: records from {} to {} were dropped unacknowledged ({} in all)\n",
                lost.from, lost.to, lost.count
            )),
            Notice::CaughtUp(_) if !options.follow => break,
            Notice::CaughtUp(_) => {}
        }
        if let Some(acker) = &mut acker
            && unacked > 0
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
