//! `exitring results`: the records of a run, in the order in which the jobs have ended.
//!
//! The first record of a job counts, in the order of the stream, which is the same for every reader.
//! Any other record of the job is from a worker that had lost its lease.

use std::fs;
use std::io;

use roaring::RoaringTreemap;
use tempfile::TempDir;

use super::connection::{Connection, SERVER_TIMEOUT, with_connection, with_retries};
use super::download::Download;
use super::error::QueueError;
use super::model::log_field::LogField;
use super::model::record_message::RecordMessage;
use super::model::run_spec::RunSpec;
use super::model::text::{Text, one_line};
use super::options::{ResultsOptions, ResultsOutput};
use super::streams::records::Records;
use crate::code;
use crate::diagnostics::say;
use crate::failure::Failure;
use crate::run::output_tail::Tail;
use crate::run::report::joblog::{ExistingLog, JobLog};
use crate::run::report::junit::JunitReport;
use crate::run::report::junit_case;
use crate::run::report::summary::excerpt;
use crate::stdio;

/// Failed jobs that the summary shows.
const FAILED_SHOWN: usize = 10;
/// How much is written to standard output at a time.
const OUT_MAX: usize = 256 * 1024;

/// Shows the results. Returns the exit code.
pub(crate) fn results(options: &ResultsOptions) -> Result<u8, Failure> {
    with_connection(&options.server, async |connection| {
        let spec = with_retries(SERVER_TIMEOUT, QueueError::is_away, async || {
            connection.spec().await
        })
        .await?;
        let mut report = Report::new(options, connection, spec.jobs)?;
        let download = options.logs.as_deref();
        let mut download = download
            .map(|dir| Download::new(connection, dir))
            .transpose()?;
        let mut records = Records::new(connection, &spec.id);
        let last = match options.follow {
            true => None,
            false => {
                let state = async || connection.records_state(&spec.id).await;
                Some(
                    with_retries(SERVER_TIMEOUT, QueueError::is_passing, state)
                        .await?
                        .last_sequence,
                )
            }
        };
        let (mut cancelled, mut idle_times, mut lost_before) = (false, 0, false);
        loop {
            let complete = report.accepted.len() >= spec.jobs;
            if complete && options.follow || last.is_some_and(|last| records.position() >= last) {
                break;
            }
            let batch = records.next().await?;
            let idle = batch.is_empty();
            for record in batch {
                let accepted = report.add(&record)?;
                if let (Some(download), Some((job, log))) = (&mut download, accepted) {
                    download.fetch(job, log).await?;
                }
            }
            report.flush()?;
            idle_times = if idle { idle_times + 1 } else { 0 };
            // There is nothing more, although the stream had more messages: their end is missing.
            if idle_times > 1 && !options.follow {
                break;
            }
            let read = report.accepted.len() + report.unreadable + records.missing();
            let is_read = read >= spec.jobs;
            if idle
                && options.follow
                && is_read
                && has_all(connection, &spec, records.position()).await
            {
                break;
            }
            if idle && options.follow {
                // A server that has just started may give counts of different times.
                let lost = connection.has_lost_results(&spec).await.unwrap_or(false);
                if lost && lost_before {
                    say(&format!(
                        "{}\n",
                        QueueError::LostResults {
                            run: connection.run.clone()
                        }
                    ));
                    break;
                }
                lost_before = lost;
            }
            // The records of jobs that were running are awaited: they come within the grace.
            if idle && options.follow && is_cancelled(connection).await? {
                let jobs = connection.consumer_state(&spec.id).await;
                cancelled = true;
                if jobs.is_err_and(|error| !error.is_passing())
                    || records.idle_seconds() > spec.options.grace().as_secs().saturating_add(2)
                {
                    break;
                }
            }
        }
        let missing = records.missing();
        if missing > 0 {
            say(&format!(
                "{missing} records are missing in the stream: the server lost them, or they were deleted; once all other jobs are done, submit the same list again to run these jobs\n"
            ));
        }
        if !cancelled {
            cancelled = is_cancelled(connection).await?;
        }
        if let Some(download) = download.filter(|download| download.missing > 0) {
            let reason = download.reason.unwrap_or_default();
            let text = format!("{} jobs have no log: {reason}", download.missing);
            say(&format!("{}\n", one_line(&text)));
        }
        report.finish(spec.jobs, cancelled)
    })
}

/// Whether each job has a message in the stream of records, and all of them are read. Some may be no
/// records, or lost.
async fn has_all(connection: &Connection, spec: &RunSpec, position: u64) -> bool {
    let state = connection.records_state(&spec.id).await;
    state.is_ok_and(|state| state.subjects >= spec.jobs && state.last_sequence <= position)
}

/// `false` as well if the server is away at the moment, which must not lose the report.
async fn is_cancelled(connection: &Connection) -> Result<bool, QueueError> {
    match connection.is_cancelled().await {
        Err(error) if error.is_passing() => Ok(false),
        cancelled => cancelled,
    }
}

/// What is made of the records.
struct Report<'a> {
    options: &'a ResultsOptions,
    /// The number of jobs.
    jobs: u64,
    /// The jobs with a result.
    accepted: RoaringTreemap,
    /// Messages that are no record of a job of the run.
    unreadable: u64,
    extra: u64,
    failed: u64,
    interrupted: u64,
    first_failed: Vec<(u64, String, String)>,
    out: Vec<u8>,
    joblog: Option<JobLog>,
    junit: Option<(JunitReport, TempDir)>,
}

impl<'a> Report<'a> {
    fn new(
        options: &'a ResultsOptions,
        connection: &Connection,
        jobs: u64,
    ) -> Result<Self, Failure> {
        let joblog = match &options.joblog {
            Some(path) => {
                let log = JobLog::open(path, ExistingLog::Refuse);
                let remedy = "remove it, or name another file";
                Some(log.map_err(|failure| failure.remedy(remedy))?.0)
            }
            None => None,
        };
        let junit = match options.output {
            ResultsOutput::Junit => {
                let dir = tempfile::tempdir()
                    .map_err(|error| Failure::writing("a temporary directory", &error))?;
                let path = dir.path().join("junit.xml");
                Some((JunitReport::create(&path, connection.run.as_bytes())?, dir))
            }
            _ => None,
        };
        Ok(Self {
            options,
            jobs,
            accepted: RoaringTreemap::new(),
            unreadable: 0,
            extra: 0,
            failed: 0,
            interrupted: 0,
            first_failed: Vec::new(),
            out: Vec::new(),
            joblog,
            junit,
        })
    }

    /// Adds a record. If it is accepted, returns its job, and where the log is.
    fn add(&mut self, json: &[u8]) -> Result<Option<(u64, Option<LogField>)>, Failure> {
        // Another program may have published it. The other records are as good as before.
        let message = serde_json::from_slice::<RecordMessage>(json).ok();
        let message = message.filter(|message| (1..=self.jobs).contains(&message.record.job));
        let Some(message) = message else {
            self.unreadable += 1;
            return Ok(None);
        };
        let accepted = self.accepted.insert(message.record.job);
        self.extra += u64::from(!accepted);
        if self.options.output == ResultsOutput::Jsonl {
            // The record as it was published, with one more field.
            let end = json.iter().rposition(|&byte| byte == b'}').unwrap_or(0);
            self.out.extend(&json[..end]);
            self.out
                .extend(format!(",\"accepted\":{accepted}}}\n").as_bytes());
        }
        let log = (message.record.job, message.log.clone());
        if accepted {
            self.accept(message)?;
        }
        if self.out.len() > OUT_MAX {
            self.flush()?;
        }
        Ok(accepted.then_some(log))
    }

    fn accept(&mut self, message: RecordMessage) -> Result<(), Failure> {
        let record = message.record.as_record();
        self.interrupted += u64::from(record.interrupted);
        if !record.success && !record.interrupted {
            self.failed += 1;
            if self.first_failed.len() < FAILED_SHOWN {
                let text = excerpt(&record.command);
                self.first_failed
                    .push((record.job, excerpt(&record.description()), text));
            }
        }
        if let Some(joblog) = &mut self.joblog {
            joblog.append(&JobLog::hashed_line(&record, message.origin.hash.clone()))?;
        }
        if let Some((junit, _)) = &mut self.junit {
            let output = [
                tail(message.output.stdout, message.output.stdout_omitted),
                tail(message.output.stderr, message.output.stderr_omitted),
            ];
            let name = message.origin.name.and_then(Text::into_bytes);
            let name = name.unwrap_or_else(|| record.command.as_bytes().to_vec());
            let case = junit_case::of_stored(junit.suite(), &name, &record, &output);
            return junit.add(case);
        }
        if self.options.output == ResultsOutput::Human {
            let bytes = |text: Option<Text>| text.and_then(Text::into_bytes).unwrap_or_default();
            self.out.extend(bytes(message.output.stdout));
            let errors = bytes(message.output.stderr);
            if !errors.is_empty() {
                self.flush()?;
                let _ = stdio::write_err(&errors);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let written = stdio::write_out(&self.out);
        self.out.clear();
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => {
                Failure::new(code::BROKEN_PIPE, "standard output was closed")
            }
            _ => Failure::writing("standard output", &error),
        })
    }

    fn finish(mut self, jobs: u64, cancelled: bool) -> Result<u8, Failure> {
        if let Some((junit, dir)) = self.junit.take() {
            junit.finish()?;
            let report = fs::read(dir.path().join("junit.xml"));
            self.out = report.map_err(|error| Failure::writing("the report", &error))?;
        }
        self.flush()?;
        let with_result = self.accepted.len();
        if !self.options.quiet {
            say(&self.summary(jobs, cancelled));
        }
        let all_succeeded = with_result == jobs && self.failed + self.interrupted == 0;
        Ok(match all_succeeded {
            true => code::OK,
            false => code::SOME_FAILED,
        })
    }

    fn summary(&self, jobs: u64, cancelled: bool) -> String {
        let with_result = self.accepted.len();
        let succeeded = with_result - self.failed - self.interrupted;
        let mut text = format!("{succeeded} succeeded, {} failed", self.failed);
        if self.interrupted > 0 {
            text += &format!(", {} interrupted", self.interrupted);
        }
        if with_result < jobs {
            text += &format!("; {} of {jobs} have no result", jobs - with_result);
        }
        if cancelled {
            text += "; the run was cancelled";
        }
        if self.extra > 0 {
            text += &format!(
                "; {} more records of jobs that ran again do not count",
                self.extra
            );
        }
        if self.unreadable > 0 {
            text += &format!("; {} messages are not records of it", self.unreadable);
        }
        text += "\n";
        for (job, how, command) in &self.first_failed {
            text += &format!("  job {job}: {how}: {command}\n");
        }
        let more = self.failed.saturating_sub(self.first_failed.len() as u64);
        if more > 0 {
            text += &format!("  and {more} more; --output jsonl lists all of them\n");
        }
        text
    }
}

fn tail(text: Option<Text>, omitted: u64) -> Tail {
    let bytes = text.and_then(Text::into_bytes).unwrap_or_default();
    Tail::after(omitted, bytes)
}
