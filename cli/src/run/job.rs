//! A job: its number, its attempt, and the command that it executes.

use std::borrow::Cow;
use std::time::Instant;

use jiff::Timestamp;

use super::attempt::FailedAttempts;
use super::claim::Claim;
use super::command_spec::{CommandSpec, SlottedWord};
use super::output::job_stream::whole_characters;

/// One attempt at a job.
#[derive(Debug)]
pub(crate) struct Job {
    /// The position in the list, from 1, independent of the shard.
    pub(crate) number: u64,
    /// From 1.
    pub(crate) attempt: u32,
    /// A number from 1 that no other job has while this one runs; 0 before the job is started.
    pub(crate) slot: u32,
    /// Which of the times of `--repeat` this is, from 1; 0 without that option.
    pub(crate) repeat: u32,
    /// An attempt ran for the time of `--slow-after`.
    pub(crate) slow: bool,
    pub(crate) command: CommandSpec,
    /// What only some runs need.
    pub(crate) details: Option<Box<Details>>,
}

/// Details of a job that some options ask for.
#[derive(Debug, Default)]
pub(crate) struct Details {
    /// What precedes each line of the job's output.
    pub(crate) tag: Option<SlottedWord>,
    /// What the job reads; `None`: /dev/null.
    pub(crate) input: Option<JobInput>,
    /// What the job asks for.
    pub(crate) claim: Option<Claim>,
    /// How often the job was ended and put back (`--memfree`). These attempts have not failed.
    pub(crate) put_back: u32,
    /// The name of the job in a report.
    pub(crate) name: Option<SlottedWord>,
    /// Earlier attempts, for a report.
    pub(crate) attempts: FailedAttempts,
    /// The right to run a job of a queue.
    #[cfg(feature = "queue")]
    pub(crate) lease: Option<crate::queue::worker::lease::Lease>,
}

/// What a job reads from its standard input.
#[derive(Debug)]
pub(crate) enum JobInput {
    Text(Vec<u8>),
    /// The file of this name.
    File(SlottedWord),
}

/// The most bytes of a tag. It bounds what a line may grow by.
const TAG_MAX: usize = 1024;

impl Job {
    /// The command as one would type it, for messages and records. Bytes that are not UTF-8 are
    /// replaced.
    pub(crate) fn command_text(&self) -> Cow<'_, str> {
        self.command.text(self.slot)
    }

    /// The same as `command_text`, without loss.
    pub(crate) fn command_bytes(&self) -> Cow<'_, [u8]> {
        self.command.bytes(self.slot)
    }

    pub(crate) fn claim(&self) -> Option<&Claim> {
        self.details.as_ref()?.claim.as_ref()
    }

    /// Whether the job is one of a queue.
    pub(crate) fn is_leased(&self) -> bool {
        #[cfg(feature = "queue")]
        return self.details.as_ref().is_some_and(|it| it.lease.is_some());
        #[cfg(not(feature = "queue"))]
        false
    }

    /// The number of the attempt, without those that were put back.
    pub(crate) fn counted_attempt(&self) -> u32 {
        let put_back = self.details.as_ref().map_or(0, |details| details.put_back);
        self.attempt - put_back
    }

    /// The name of the job in a report: its arguments, or its command.
    pub(crate) fn name(&self) -> Cow<'_, [u8]> {
        let name = self.details.as_ref().and_then(|it| it.name.as_ref());
        match name {
            Some(name) => name.with_slot(self.slot).into(),
            None => self.command_bytes(),
        }
    }

    /// What precedes each line of the job's output: the tag, without line ends, and a tab.
    pub(crate) fn tag(&self) -> Option<Vec<u8>> {
        let tag = self.details.as_ref()?.tag.as_ref()?;
        let mut tag = tag.with_slot(self.slot);
        if tag.len() > TAG_MAX {
            tag.truncate(whole_characters(&tag[..TAG_MAX]));
        }
        for byte in &mut tag {
            if *byte == b'\n' {
                *byte = b' ';
            }
        }
        tag.push(b'\t');
        Some(tag)
    }
}

/// The time at which a job was started, on the monotonic clock and on the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartTime {
    pub(crate) instant: Instant,
    pub(crate) time: Timestamp,
}

impl StartTime {
    pub(crate) fn now() -> Self {
        Self {
            instant: Instant::now(),
            time: Timestamp::now(),
        }
    }
}
