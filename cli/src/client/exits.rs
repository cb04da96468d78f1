//! `exitring exits`: prints the records of a service, those that it keeps and those to come.

use anyhow::{Context, Result, ensure};
use exitring_protocol::{Client, Notice};

use super::{ExitsOptions, print};
use crate::code;
use crate::diagnostics::say;

/// How many printed records may be unacknowledged.
const ACK_EVERY: u64 = 1000;

pub(crate) fn exits(options: &ExitsOptions) -> Result<u8> {
    // An acknowledgement covers all older records, too, also those before the first that is
    // printed.
    ensure!(
        options.from == 0 || !options.ack,
        "--ack would also acknowledge the records before --from {}, which are not printed; leave out one of the two",
        options.from
    );
    let service = &options.service;
    let connect = || {
        Client::connect(&service.socket, service.client.as_deref())
            .with_context(|| format!("connecting to {}", service.socket.display()))
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
