//! `exitring submit`: publishes a list.
//!
//! Job N is message N of its stream. Each message says which sequence it expects before it, and the
//! server refuses any other (`Nats-Expected-Last-Sequence`). So a job is stored at most once,
//! however often and from however many processes the list is submitted, and whatever has happened
//! to confirmations. That does not depend on the time for which the server knows identifiers of
//! messages.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use tokio::time::{Instant, sleep};

use super::connection::{
    Connection, RETRY_PAUSE, SERVER_TIMEOUT, is_unavailable, server_error, with_connection,
    with_retries,
};
use super::error::QueueError;
use super::model::run_spec::{
    FORMAT, RunOptions, RunSpec, ShellChoice, random_id, variable_with_value,
};
use super::model::text::Text;
use super::options::SubmitOptions;
use super::spool::Spool;
use crate::code;
use crate::diagnostics::say;
use crate::failure::Failure;
use crate::run::input::source::{ListOptions, Repeat, Source};

/// How many messages are on their way to the server.
const WINDOW: usize = 4096;
/// What a message has beside the job: its headers.
const HEADERS: usize = 512;

/// Submits a list. Returns the exit code.
pub(crate) fn submit(options: &SubmitOptions) -> Result<u8, Failure> {
    let run_options = run_options(options)?;
    // Before the list is opened, which takes the place of standard input.
    let mut source = Source::open(&list_options(options))?;
    with_connection(&options.server, async |connection| {
        let limit = connection.client.max_payload().saturating_sub(HEADERS);
        // It may block on standard input. The connection is kept by no other task meanwhile, so it
        // may be lost, and is made again.
        let spool = Spool::read(&mut source, limit)?;
        let spec = RunSpec {
            format: FORMAT,
            id: random_id(),
            server: connection.single_server(),
            jobs: spool.jobs,
            list: spool.hash.clone(),
            options: run_options,
        };
        let added = store(connection, &spec, &spool, options.replicas).await?;
        if !options.quiet {
            let (run, jobs) = (&connection.run, spec.jobs);
            say(&match jobs.saturating_sub(added) {
                0 => format!("{jobs} jobs submitted to the run {run}\n"),
                before => {
                    format!(
                        "{added} jobs submitted to the run {run}; {before} of {jobs} were there\n"
                    )
                }
            });
        }
        Ok(code::OK)
    })
}

fn list_options(options: &SubmitOptions) -> ListOptions {
    ListOptions {
        file: options.file.clone(),
        end: match options.null {
            true => Some(0),
            false => options.delimiter,
        },
        template: options.command.clone(),
        max_args: options.max_args.map(|max| max as usize),
        tag: None,
        stdin: options.stdin.clone(),
        // For `results --output junit`. A line is its own name.
        names: !options.command.is_empty(),
        repeat: Repeat::Once,
    }
}

fn run_options(options: &SubmitOptions) -> Result<RunOptions, Failure> {
    let variables = options.env.iter().map(|variable| {
        variable_with_value(variable).ok_or_else(|| {
            let shown = variable.display();
            Failure::usage(format!("--env {shown}: the variable is not set"))
                .remedy(format!("export it, or give a value: --env {shown}=VALUE"))
        })
    });
    Ok(RunOptions {
        timeout_seconds: options.timeout.map(|timeout| timeout.as_secs_f64()),
        grace_seconds: options.grace.as_secs_f64(),
        retries: options.retries,
        retry_delay: options.retry_delay.map(|delay| delay.to_string()),
        fail_flaky: options.fail_flaky,
        cwd: options.cwd.as_ref().map(|dir| Text::of_os(dir.as_os_str())),
        env: variables.collect::<Result<_, _>>()?,
        shell: match (&options.shell, options.no_shell) {
            (Some(shell), _) => ShellChoice::Always(Text::of_os(shell)),
            (None, true) => ShellChoice::Never,
            (None, false) => ShellChoice::Auto,
        },
        lease_seconds: options.lease.as_secs_f64(),
        max_lost: options.max_lost,
    })
}

/// Stores the run. Returns how many jobs were not there yet.
async fn store(
    connection: &Connection,
    spec: &RunSpec,
    spool: &Spool,
    replicas: u8,
) -> Result<u64, QueueError> {
    let mut deadline = Instant::now() + SERVER_TIMEOUT;
    let (spec, mut stored) = loop {
        match begin(connection, spec, replicas).await {
            Ok(begun) => break begun,
            Err(error) if error.is_away() && Instant::now() < deadline => {
                sleep(RETRY_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    };
    let spec = &spec;
    let mut added = 0;
    while stored < spec.jobs {
        let result = publish(connection, spec, spool, stored).await;
        // What is stored counts, and not what was confirmed.
        let now = loop {
            match stored_jobs(connection, spec).await {
                Ok(now) => break now,
                Err(error) if error.is_passing() && Instant::now() < deadline => {
                    sleep(RETRY_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        };
        if now > stored {
            deadline = Instant::now() + SERVER_TIMEOUT;
            added += now - stored;
        }
        stored = now;
        match result {
            Ok(()) => {}
            Err(Stopped::Fatal(error)) => return Err(error),
            Err(Stopped::Full(reason)) => {
                let jobs = spec.jobs;
                return Err(QueueError::Full {
                    reason,
                    stored,
                    jobs,
                });
            }
            Err(Stopped::Retry) if Instant::now() < deadline => {
                // The server is away, or another process submits the same list.
                sleep(Duration::from_millis(50)).await;
            }
            Err(Stopped::Retry) => {
                return Err(QueueError::NoAnswer {
                    what: "submit the jobs",
                });
            }
        }
    }
    // A server that has just started may give counts of different times.
    if has_lost_results(connection, spec).await? {
        sleep(Duration::from_secs(1)).await;
        if has_lost_results(connection, spec).await? {
            let again = async || connection.make_available_again(spec).await;
            with_retries(SERVER_TIMEOUT, QueueError::is_away, again).await?;
        }
    }
    Ok(added)
}

/// `false` as well if the server is away at the moment: all jobs are stored.
async fn has_lost_results(connection: &Connection, spec: &RunSpec) -> Result<bool, QueueError> {
    match connection.has_lost_results(spec).await {
        Err(error) if error.is_passing() => Ok(false),
        lost => lost,
    }
}

/// Creates what a run consists of, unless it is there. Returns what is stored: the run may have been
/// submitted before, with another id. It can be repeated.
async fn begin(
    connection: &Connection,
    spec: &RunSpec,
    replicas: u8,
) -> Result<(RunSpec, u64), QueueError> {
    connection.create_state(replicas).await?;
    let spec = claim(connection, spec).await?;
    connection.create_streams(&spec, replicas).await?;
    let stored = stored_jobs(connection, &spec).await?;
    Ok((spec, stored))
}

/// Publishes what the run is. Of several processes at a time one wins, and the others compare.
/// Returns what is stored.
async fn claim(connection: &Connection, spec: &RunSpec) -> Result<RunSpec, QueueError> {
    let names = connection.names();
    let what = "submit the run";
    let json = serde_json::to_vec(spec).unwrap_or_default();
    let message = PublishMessage::build()
        .payload(json.into())
        .expected_last_subject_sequence(0);
    connection
        .publish_first(what, names.spec_subject(), message)
        .await?;
    let existing = connection.spec().await?;
    let run = connection.run.clone();
    if (existing.jobs, &existing.list) != (spec.jobs, &spec.list) {
        return Err(QueueError::OtherList {
            run,
            jobs: existing.jobs,
            list: existing.list,
        });
    }
    let options = existing.options.differences(&spec.options);
    if !options.is_empty() {
        return Err(QueueError::OtherOptions { run, options });
    }
    match connection.is_cancelled().await? {
        true => Err(QueueError::Cancelled { run }),
        false => Ok(existing),
    }
}

async fn stored_jobs(connection: &Connection, spec: &RunSpec) -> Result<u64, QueueError> {
    let state = connection.jobs_state(&spec.id).await?;
    if state.last_sequence > spec.jobs || state.messages != state.last_sequence {
        return Err(QueueError::InvalidMessage {
            run: connection.run.clone(),
            reason: format!(
                "its stream has {} messages up to number {}, and the list {} jobs",
                state.messages, state.last_sequence, spec.jobs
            ),
        });
    }
    Ok(state.last_sequence)
}

/// Why not all jobs were published.
enum Stopped {
    /// A confirmation is missing, or another process was faster.
    Retry,
    Full(String),
    Fatal(QueueError),
}

impl From<QueueError> for Stopped {
    fn from(error: QueueError) -> Self {
        Self::Fatal(error)
    }
}

/// Publishes the jobs after the first `stored` ones, many at a time. If one is refused, so are all
/// that follow.
async fn publish(
    connection: &Connection,
    spec: &RunSpec,
    spool: &Spool,
    stored: u64,
) -> Result<(), Stopped> {
    let subject = connection.names().jobs_subject(&spec.id);
    let mut messages = spool.messages(stored)?;
    let mut sequence = stored;
    let mut window = VecDeque::with_capacity(WINDOW);
    while let Some(message) = messages.next()? {
        let size = message.len();
        let message = PublishMessage::build()
            .payload(message.into())
            .expected_last_sequence(sequence);
        let sent = connection
            .context
            .send_publish(subject.clone(), message)
            .await;
        let sent = sent.map_err(|error| match error.kind() {
            // Its limit was lowered, or the connection is with another one of the cluster.
            PublishErrorKind::MaxPayloadExceeded => Stopped::Fatal(QueueError::TooLarge {
                job: sequence + 1,
                size,
                limit: connection.client.max_payload(),
            }),
            _ => Stopped::Retry,
        });
        window.push_back(sent?);
        sequence += 1;
        if window.len() == WINDOW
            && let Some(first) = window.pop_front()
        {
            confirm(connection, first).await?;
        }
    }
    for confirmation in window {
        confirm(connection, confirmation).await?;
    }
    Ok(())
}

/// Whether an error says that a limit of the storage is reached. JetStream has these codes for it:
/// resources and storage of the server and of the account, and what a stream may have (its maximum of
/// messages and of bytes have code 10077).
fn is_full(error: &jetstream::Error) -> bool {
    use async_nats::jetstream::ErrorCode as Code;
    [
        Code::INSUFFICIENT_RESOURCES,
        Code::STORAGE_RESOURCES_EXCEEDED,
        Code::MEMORY_RESOURCES_EXCEEDED,
        Code::ACCOUNT_RESOURCES_EXCEEDED,
        Code::STREAM_STORE_FAILED,
    ]
    .contains(&error.error_code())
}

async fn confirm(connection: &Connection, confirmation: PublishAckFuture) -> Result<(), Stopped> {
    let confirmed = async {
        Ok(match confirmation.await {
            Ok(_) => Ok(()),
            Err(error) => Err(match (error.kind(), server_error(&error)) {
                // No service answers for the subject of a stream that the server is just loading.
                // Whether there is one is found out when the stored jobs are counted.
                (
                    PublishErrorKind::WrongLastSequence
                    | PublishErrorKind::TimedOut
                    | PublishErrorKind::StreamNotFound,
                    _,
                ) => Stopped::Retry,
                (_, Some(error)) if is_unavailable(error) => Stopped::Retry,
                (_, Some(error)) if is_full(error) => Stopped::Full(error.to_string()),
                (_, Some(error)) => Stopped::Fatal(QueueError::Refused {
                    what: "store a job",
                    reason: error.to_string(),
                }),
                (_, None) => Stopped::Retry,
            }),
        })
    };
    connection.unless_denied(confirmed).await?
}
