//! The result of a job, in the stream of records.

use serde::{Deserialize, Serialize};

use super::text::Text;
use crate::run::job::Job;
use crate::run::output_tail::{OutputTail, Tail};
use crate::run::report::record::{Record, StoredRecord};

/// Characters of a command that does not fit.
const SHORT: usize = 1024;

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
    let name = job
        .details
        .as_ref()
        .and_then(|details| details.name.as_ref());
    Origin {
        hash: format!("{:016x}", job.command.hash()),
        name: name.map(|name| Text::of(&name.with_slot(job.slot))),
        worker: worker.into(),
        host: host.into(),
        delivery,
        lost,
    }
}

/// The message of a record, of at most `limit` bytes. Output is left out first, and then the command.
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
        if message.len() <= limit {
            return message;
        }
        if keep == 0 {
            return shorten(message);
        }
        // JSON writes some bytes as six.
        keep = match keep {
            usize::MAX => 16 * 1024,
            keep if keep > 512 => keep / 2,
            _ => 0,
        };
    }
}

/// The message without most of its command. Job and message were small enough for the server, so what
/// is left is.
fn shorten(message: Vec<u8>) -> Vec<u8> {
    let Ok(serde_json::Value::Object(mut record)) = serde_json::from_slice(&message) else {
        return message;
    };
    let command = record.get("command").and_then(|command| command.as_str());
    let command: String = command.unwrap_or_default().chars().take(SHORT).collect();
    record.insert("command".into(), command.into());
    record.remove("command_base64");
    record.insert("name".into(), serde_json::Value::Null);
    serde_json::to_vec(&record).unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::command_spec::CommandSpec;
    use crate::run::job::StartTime;

    #[test]
    fn a_record_is_shortened_to_what_the_server_accepts() {
        let job = |command: &str| Job {
            number: 1,
            attempt: 1,
            slot: 1,
            repeat: 0,
            slow: false,
            command: CommandSpec::Line(command.into()),
            details: None,
        };
        let encoded = |command: &str, output: &[u8], limit| {
            let job = job(command);
            let record = Record::of_given_up(&job, StartTime::now(), "why".into());
            let output = [Tail::after(7, output.to_vec()), Tail::default()];
            let message = encode(&record, &origin(&job, "w", "h", 2, 1), Some(&output), limit);
            assert!(message.len() <= limit, "{}", message.len());
            serde_json::from_slice::<RecordMessage>(&message).expect("a record")
        };
        let whole = encoded("true", b"abc", 100_000);
        assert_eq!(whole.output.stdout, Some(Text::Utf8("abc".into())));
        assert_eq!((whole.output.stdout_omitted, whole.origin.lost), (7, 1));
        let output = [1; 30_000];
        let shorter = encoded("true", &output, 60_000);
        let text = shorter
            .output
            .stdout
            .and_then(Text::into_bytes)
            .expect("a text");
        assert!(!text.is_empty() && text.len() < output.len());
        assert_eq!(
            shorter.output.stdout_omitted as usize,
            7 + output.len() - text.len()
        );
        let long = "x".repeat(100_000);
        let short = encoded(&long, &output, 20_000);
        assert!(short.output.stdout.is_none() && short.record.job == 1);
    }
}
