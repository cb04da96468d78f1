//! What a worker reads from the queue before it starts: how the jobs of the run are run.
//!
//! No other thread exists then, so the variables of `--env` can be set. The connection ends before
//! that, and with it the threads that resolve names of hosts.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::sleep;

use crate::failure::Failure;
use crate::queue::access::Access;
use crate::queue::address::Address;
use crate::queue::connection::{Connection, runtime};
use crate::queue::error::QueueError;
use crate::queue::model::record_message::record_limit;
use crate::queue::model::run_spec::{RunSpec, ShellChoice, random_id};
use crate::run::Options;

/// How often it is looked whether the run was submitted (`--wait`).
const WAIT_PAUSE: Duration = Duration::from_secs(1);

/// What a worker of the queue needs.
pub(crate) struct Prepared {
    pub(super) address: Address,
    pub(super) access: Access,
    /// Where results wait that do not fit into the memory.
    pub(super) temporary: PathBuf,
    pub(super) spec: RunSpec,
    /// The consumer may have forgotten which jobs are done: it was deleted and made again, or the
    /// server was killed since the first result.
    pub(super) looks_up_all: bool,
    /// The name of this worker, which no other one has.
    pub(super) worker: String,
    pub(super) host: String,
    /// The largest record that the server accepts.
    pub(super) limit: usize,
}

/// Reads what the run is, and sets the options that belong to it. `None`: there is no queue.
pub(crate) fn prepare(options: &mut Options) -> Result<Option<Prepared>, Failure> {
    let Some(queue) = &options.queue.queue else {
        return Ok(None);
    };
    let address = Address::parse(queue)?;
    // Before the directory and the variables of the run apply.
    let access = Access::read(&address, &options.queue.login)?;
    let temporary = std::env::temp_dir();
    let temporary = std::path::absolute(&temporary).unwrap_or(temporary);
    let (spec, looks_up_all, limit) =
        runtime()?.block_on(read(&address, &access, options.queue.wait))?;
    options.timeout = spec.options.timeout();
    options.grace = spec.options.grace();
    options.retries = spec.options.retries;
    options.tests.fail_flaky = spec.options.fail_flaky;
    options.cwd = spec.options.cwd();
    options.env = spec.options.env();
    options.tests.retry_delay = match &spec.options.retry_delay {
        None => None,
        Some(text) => Some(text.parse().map_err(|reason| QueueError::InvalidMessage {
            run: address.run.clone(),
            reason: format!("the retry delay: {reason}"),
        })?),
    };
    match &spec.options.shell {
        ShellChoice::Auto => {}
        ShellChoice::Never => options.no_shell = true,
        ShellChoice::Always(shell) => options.shell = shell.clone().into_os(),
    }
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    Ok(Some(Prepared {
        address,
        access,
        temporary,
        spec,
        looks_up_all,
        worker: random_id(),
        host,
        limit,
    }))
}

async fn read(
    address: &Address,
    access: &Access,
    wait: bool,
) -> Result<(RunSpec, bool, usize), QueueError> {
    let connection = Connection::open(address, access).await?;
    let names = connection.names();
    let (spec, looks_up_all) = loop {
        // The streams of jobs and records are created after the specification is stored.
        let read = async {
            let spec = connection.spec().await?;
            let records = connection.records_state(&spec.id).await?;
            connection.consumer_state(&spec.id).await?;
            let made_again = names.made_again_subject();
            let made_again = connection.last_message(&names.state, &made_again).await?;
            let looks_up_all = made_again.is_some() || records.messages > 0;
            Ok::<_, QueueError>((spec, looks_up_all))
        };
        match read.await {
            // Not submitted yet, or the server is away for a while.
            Err(error) if wait && (error.is_deleted() || error.is_passing()) => {
                sleep(WAIT_PAUSE).await;
            }
            read => break read?,
        }
    };
    if connection.is_cancelled().await? {
        return Err(QueueError::Cancelled {
            run: address.run.clone(),
        });
    }
    let limit = connection.client.max_payload();
    Ok((spec, looks_up_all, record_limit(limit)))
}
