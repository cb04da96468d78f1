//! The result of a job, in the stream of records.

use serde::{Deserialize, Serialize};

use super::log_field::LogField;
use super::text::Text;
use crate::run::job::Job;
use crate::run::output_tail::{OutputTail, Tail};
use crate::run::report::record::{Record, StoredRecord};

/// Characters of a command, a name and a reason of a record that does not fit, until it does.
const SHORT: [usize; 4] = [1024, 128, 16, 0];
/// What a message has beside its content: the subject, headers, the inbox for the answer, and where the
/// log is.
const AROUND_RECORD: usize = 1024;

/// The largest record that a server with this limit on messages accepts.
pub(crate) fn record_limit(max_payload: usize) -> usize {
    // Room for the smallest record, also with a limit that is below what a message has beside it.
    max_payload
        .saturating_sub(AROUND_RECORD)
        .max(max_payload / 2)
}

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
    /// Only of workers with `--log nats`.
    #[serde(default)]
    pub(crate) log: Option<LogField>,
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
            return shorten(message, limit);
        }
        // JSON writes some bytes as six.
        keep = match keep {
            usize::MAX => 32 * 1024,
            keep if keep > 512 => keep / 2,
            _ => 0,
        };
    }
}

/// The message without its output, and without most of its texts, so that it has at most `limit`
/// bytes. The smallest one has a few hundred, whatever the limit is.
pub(crate) fn shorten(message: Vec<u8>, limit: usize) -> Vec<u8> {
    use serde_json::Value;
    let Ok(Value::Object(mut record)) = serde_json::from_slice(&message) else {
        return message;
    };
    for stream in ["stdout", "stderr"] {
        let text = record.remove(stream);
        let text = text.and_then(|text| serde_json::from_value::<Text>(text).ok());
        let length = text
            .and_then(Text::into_bytes)
            .map_or(0, |text| text.len() as u64);
        let field = format!("{stream}_omitted");
        let before = record.get(&field).and_then(Value::as_u64).unwrap_or(0);
        if before + length > 0 {
            record.insert(field, (before + length).into());
        }
    }
    record.remove("command_base64");
    record.insert("name".into(), Value::Null);
    let mut shorter = message;
    for length in SHORT {
        for field in ["command", "reason"] {
            if let Some(Value::String(text)) = record.get_mut(field) {
                *text = text.chars().take(length).collect();
            }
        }
        shorter = serde_json::to_vec(&record).unwrap_or(shorter);
        if shorter.len() <= limit {
            break;
        }
    }
    shorter
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
        assert_eq!(short.output.stdout_omitted, 7 + 30_000);
    }

    #[test]
    fn a_long_reason_is_shortened_as_well() {
        let job = Job {
            number: 1,
            attempt: 1,
            slot: 1,
            repeat: 0,
            slow: false,
            command: CommandSpec::Line("\u{1}".repeat(3000).into()),
            details: None,
        };
        let record = Record::of_given_up(&job, StartTime::now(), "\u{1}".repeat(100_000));
        let message = encode(&record, &origin(&job, "w", "h", 2, 1), None, 2048);
        assert!(message.len() <= 2048, "{}", message.len());
        let short: RecordMessage = serde_json::from_slice(&message).expect("a record");
        assert_eq!((short.record.job, short.origin.lost), (1, 1));
        // A server whose limit was lowered gets a shorter one.
        let shorter = shorten(message, 700);
        assert!(shorter.len() <= 700, "{}", shorter.len());
        serde_json::from_slice::<RecordMessage>(&shorter).expect("a record");
    }
}
