//! What a worker reads from the queue before it starts: how the jobs of the run are run.
//!
//! No other thread exists then, so the variables of `--env` can be set. The connection ends before
//! that, and with it the threads that resolve names of hosts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::sleep;

use crate::diagnostics::say;
use crate::failure::Failure;
use crate::queue::access::Access;
use crate::queue::address::Address;
use crate::queue::connection::{Connection, runtime, with_retries};
use crate::queue::error::QueueError;
use crate::queue::model::record_message::record_limit;
use crate::queue::model::run_spec::{RunSpec, ShellChoice, random_id};
use crate::run::Options;

/// How long the server has to create the bucket of the logs.
const BUCKET_TIMEOUT: Duration = Duration::from_secs(30);
/// The value of `--log` that is no directory.
const LOG_NATS: &str = "nats";
/// How often it is looked whether the run was submitted (`--wait`).
const WAIT_PAUSE: Duration = Duration::from_secs(1);

/// What a worker of the queue needs.
pub(crate) struct Prepared {
    pub(super) address: Address,
    pub(super) access: Access,
    /// Where results wait that do not fit into the memory.
    pub(super) temporary: PathBuf,
    pub(super) spec: RunSpec,
    pub(super) before: Before,
    /// The name of this worker, which no other one has.
    pub(super) worker: String,
    pub(super) host: String,
    /// The largest record that the server accepts.
    pub(super) limit: usize,
    /// Where jobs write to with `--log nats`, until that is uploaded.
    pub(super) logs: Option<TempDir>,
}

/// What has happened before this worker starts.
pub(super) struct Before {
    /// How often the consumer was recreated.
    pub(super) recreations: u64,
    has_results: bool,
    /// The server that said so.
    server: String,
}

impl Before {
    /// Whether the consumer may have forgotten which jobs are done: it was recreated, or the server
    /// may have been killed since the first result. `server`: the one that will give the jobs.
    pub(super) fn may_be_forgotten(&self, spec: &RunSpec, server: &str) -> bool {
        let same = spec.server.as_deref() == Some(server);
        let results = self.has_results || self.server != server;
        self.recreations > 0 || results && !same
    }
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
    let upload = options.output.log.as_deref() == Some(Path::new(LOG_NATS));
    let (spec, before, limit) = runtime()?.block_on(read(&address, &access, options, upload))?;
    let logs = match upload {
        false => None,
        true => {
            let mut dir = tempfile::Builder::new();
            let dir = dir.prefix("exitring-logs-").tempdir_in(&temporary);
            Some(dir.map_err(|error| QueueError::System {
                what: "create a temporary directory for logs",
                error,
            })?)
        }
    };
    if let Some(logs) = &logs {
        options.output.log = Some(logs.path().into());
    }
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
        before,
        worker: random_id(),
        host,
        limit,
        logs,
    }))
}

async fn read(
    address: &Address,
    access: &Access,
    options: &Options,
    upload: bool,
) -> Result<(RunSpec, Before, usize), QueueError> {
    let connection = Connection::open(address, access).await?;
    let mut waits = false;
    let (spec, before) = loop {
        // The streams of jobs and records are created after the specification is stored.
        let read = async {
            let spec = connection.spec().await?;
            let records = connection.records_state(&spec.id).await?;
            connection.consumer_state(&spec.id).await?;
            let before = Before {
                recreations: connection.recreations().await?,
                has_results: records.messages > 0,
                server: connection.server_id(),
            };
            Ok::<_, QueueError>((spec, before))
        };
        match read.await {
            // Not submitted yet, or the server is away for a while.
            Err(error) if options.queue.wait && may_come(&error) => {
                if !std::mem::replace(&mut waits, true) && !options.output.quiet {
                    say(&format!(
                        "{error}: waiting until it is submitted (--wait)\n"
                    ));
                }
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
    if upload {
        // The servers of a cluster may need some time for that.
        with_retries(BUCKET_TIMEOUT, QueueError::is_passing, async || {
            connection.create_bucket().await
        })
        .await?;
    }
    let limit = connection.client.max_payload();
    Ok((spec, before, record_limit(limit)))
}

/// Whether a run that cannot be used now may be usable later.
fn may_come(error: &QueueError) -> bool {
    error.is_deleted() || error.is_passing() || matches!(error, QueueError::NoConsumer { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::model::run_spec::RunOptions;

    #[test]
    fn jobs_are_looked_up_unless_the_server_has_run_all_the_time() {
        let before = |recreated, has_results| Before {
            recreations: u64::from(recreated),
            has_results,
            server: "A".into(),
        };
        let looks_up = |before: Before, submitted_to: Option<&str>, server: &str| {
            let spec = RunSpec {
                format: 1,
                id: String::new(),
                server: submitted_to.map(str::to_owned),
                jobs: 1,
                list: String::new(),
                options: RunOptions::default(),
            };
            before.may_be_forgotten(&spec, server)
        };
        assert!(!looks_up(before(false, true), Some("A"), "A"));
        assert!(looks_up(before(true, true), Some("A"), "A"));
        // It has restarted before the look, after it, or is in a cluster.
        assert!(looks_up(before(false, true), Some("0"), "A"));
        assert!(looks_up(before(false, false), Some("A"), "B"));
        assert!(looks_up(before(false, true), None, "A"));
        // Nothing can be forgotten.
        assert!(!looks_up(before(false, false), None, "A"));
    }
}
