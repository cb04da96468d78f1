//! The result of a job, in the stream of records.

use serde::{Deserialize, Serialize};

use super::text::Text;
use crate::run::job::Job;
use crate::run::output_tail::{OutputTail, Tail};
use crate::run::report::record::{Record, StoredRecord};

/// What a worker adds to a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The hash of the command, as in a job log.
    pub(crate) hash: String,
    /// Its name in a report.
    pub(crate) name: Option<Text>,
    pub(crate) worker: String,
    pub(crate) host: String,
    /// Which delivery of the job this is, from 1.
    pub(crate) delivery: u64,
    /// How often the worker of this job was lost before.
    pub(crate) lost: u64,
}

/// The end of what the job has written.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Output {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stdout: Option<Text>,
    /// How many bytes came before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) stdout_omitted: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stderr: Option<Text>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) stderr_omitted: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A record as a worker publishes it.
#[derive(Serialize)]
struct Published<'a> {
    #[serde(flatten)]
    record: &'a Record<'a>,
    #[serde(flatten)]
    origin: &'a Origin,
    #[serde(flatten)]
    output: Output,
}

/// A record as `results` reads it.
#[derive(Debug, Deserialize)]
pub(crate) struct RecordMessage {
    #[serde(flatten)]
    pub(crate) record: StoredRecord,
    #[serde(flatten)]
    pub(crate) origin: Origin,
    #[serde(flatten)]
    pub(crate) output: Output,
}

/// The origin of the record of a job.
pub(crate) fn origin(job: &Job, worker: &str, host: &str, delivery: u64, lost: u64) -> Origin {
    let name = job.details.as_ref().and_then(|details| details.name.as_ref());
    Origin {
        hash: format!("{:016x}", job.command.hash()),
        name: name.map(|name| Text::of(&name.with_slot(job.slot))),
        worker: worker.into(),
        host: host.into(),
        delivery,
        lost,
    }
}

/// The message of a record, of at most `limit` bytes if the output can be shortened that much.
pub(crate) fn encode(
    record: &Record<'_>,
    origin: &Origin,
    output: Option<&OutputTail>,
    limit: usize,
) -> Vec<u8> {
    let mut keep = usize::MAX;
    loop {
        let part = |tail: &Tail| {
            let excess = tail.len().saturating_sub(keep);
            let bytes = &tail.bytes()[excess..];
            let text = (!bytes.is_empty()).then(|| Text::of(bytes));
            (text, tail.omitted() + excess as u64)
        };
        let [out, err] = match output {
            Some(tails) => tails.each_ref().map(part),
            None => Default::default(),
        };
        let published = Published {
            record,
            origin,
            output: Output {
                stdout: out.0,
                stdout_omitted: out.1,
                stderr: err.0,
                stderr_omitted: err.1,
            },
        };
        // Records consist of strings and numbers, which JSON can represent.
        let message = serde_json::to_vec(&published).unwrap_or_default();
        if message.len() <= limit || keep == 0 {
            return message;
        }
        // JSON writes some bytes as six.
        keep = match keep {
            usize::MAX => 16 * 1024,
            keep if keep > 512 => keep / 2,
            _ => 0,
        };
    }
}
