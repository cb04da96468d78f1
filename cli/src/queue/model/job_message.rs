//! A job in the queue.

use serde::{Deserialize, Serialize};

use super::text::Text;
use crate::run::claim::Claim;
use crate::run::command_spec::{CommandSpec, SlottedWord};
use crate::run::input::item::Item;
use crate::run::job::{Details, Job, JobInput};

/// A job in the queue. Job N is message N of the stream.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JobMessage {
    pub(crate) job: u64,
    #[serde(flatten)]
    command: Command,
    /// What it reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdin: Option<Input>,
    /// Its name in a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Word>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Command {
    Line(Text),
    Argv(Vec<Text>),
    /// Words with places for the number of the slot.
    SlottedArgv(Vec<Word>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Input {
    Text(Text),
    File(Word),
}

#[derive(Debug, Serialize, Deserialize)]
struct Word {
    text: Text,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    slots: Vec<usize>,
}

impl Word {
    fn of(word: SlottedWord) -> Self {
        Self {
            text: Text::of(&word.text),
            slots: word.slots,
        }
    }

    fn into_word(self) -> Option<SlottedWord> {
        let text = self.text.into_bytes()?;
        let ascending = self.slots.is_sorted();
        let inside = self.slots.last().is_none_or(|last| *last <= text.len());
        (ascending && inside).then_some(SlottedWord {
            text,
            slots: self.slots,
        })
    }
}

impl JobMessage {
    /// The message of a job of the list. `Err`: the job is invalid, and why.
    pub(crate) fn of(item: Item) -> Result<Self, &'static str> {
        let command = match item.command {
            CommandSpec::Line(line) => Command::Line(Text::of_os(&line)),
            CommandSpec::Argv(words) => {
                Command::Argv(words.iter().map(|word| Text::of_os(word)).collect())
            }
            CommandSpec::SlottedArgv(words) => {
                Command::SlottedArgv(words.into_iter().map(Word::of).collect())
            }
            CommandSpec::Invalid(why, _) => return Err(why),
        };
        let details = item.details.map(|details| *details).unwrap_or_default();
        let (weight, group) = match details.claim {
            Some(claim) => (Some(claim.weight), claim.group.map(String::from)),
            None => (None, None),
        };
        Ok(Self {
            job: item.number,
            command,
            stdin: details.input.map(|input| match input {
                JobInput::Text(text) => Input::Text(Text::of(&text)),
                JobInput::File(name) => Input::File(Word::of(name)),
            }),
            name: details.name.map(Word::of),
            weight,
            group,
        })
    }

    /// The job, for a worker. `None`: the message is invalid.
    pub(crate) fn into_job(self) -> Option<Job> {
        let command = match self.command {
            Command::Line(line) => CommandSpec::Line(line.into_os()?),
            Command::Argv(words) => {
                let words = words.into_iter().map(Text::into_os);
                CommandSpec::Argv(words.collect::<Option<_>>()?)
            }
            Command::SlottedArgv(words) => {
                let words = words.into_iter().map(Word::into_word);
                CommandSpec::SlottedArgv(words.collect::<Option<_>>()?)
            }
        };
        let input = match self.stdin {
            None => None,
            Some(Input::Text(text)) => Some(JobInput::Text(text.into_bytes()?)),
            Some(Input::File(name)) => Some(JobInput::File(name.into_word()?)),
        };
        let name = match self.name {
            None => None,
            Some(name) => Some(name.into_word()?),
        };
        let claim = (self.weight.is_some() || self.group.is_some()).then(|| Claim {
            weight: self.weight.unwrap_or(1).max(1),
            group: self.group.map(Into::into),
        });
        Some(Job {
            number: self.job,
            attempt: 1,
            slot: 0,
            repeat: 0,
            slow: false,
            command,
            details: Some(Box::new(Details {
                input,
                claim,
                name,
                ..Details::default()
            })),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(command: CommandSpec, details: Option<Box<Details>>) -> Option<Job> {
        let item = Item {
            number: 7,
            position: 7,
            repeat: 0,
            command,
            details,
        };
        let message = JobMessage::of(item).expect("it is valid");
        let json = serde_json::to_vec(&message).expect("it is JSON");
        serde_json::from_slice::<JobMessage>(&json).ok()?.into_job()
    }

    #[test]
    fn jobs_survive_a_round_trip() {
        let word = || SlottedWord {
            text: b"a\xff".to_vec(),
            slots: vec![0, 2],
        };
        let details = Box::new(Details {
            input: Some(JobInput::File(word())),
            claim: Some(Claim {
                weight: 3,
                group: Some("db".into()),
            }),
            name: Some(word()),
            ..Details::default()
        });
        let words = vec![word(), SlottedWord::default()];
        let job = round_trip(CommandSpec::SlottedArgv(words), Some(details)).expect("a job");
        assert_eq!(job.number, 7);
        assert_eq!(&*job.command.bytes(2), b"'2a\xff2' ''");
        let details = job.details.expect("it has details");
        assert_eq!(details.claim.map(|claim| claim.weight), Some(3));
        assert_eq!(
            details.name.map(|name| name.with_slot(1)),
            Some(b"1a\xff1".to_vec())
        );
        let job = round_trip(CommandSpec::Line("echo \u{1}".into()), None).expect("a job");
        assert_eq!(job.command_text(), "echo \u{1}");
    }

    #[test]
    fn invalid_words_are_refused() {
        for json in [
            r#"{"job":1,"slotted_argv":[{"text":"a","slots":[2]}]}"#,
            r#"{"job":1,"slotted_argv":[{"text":"abc","slots":[2,1]}]}"#,
            r#"{"job":1,"line":{"base64":"%"}}"#,
        ] {
            let message: JobMessage = serde_json::from_str(json).expect(json);
            assert!(message.into_job().is_none(), "{json}");
        }
    }
}
