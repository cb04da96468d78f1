//! The record of one line that a job wrote.

use std::borrow::Cow;

use serde::Serialize;

use crate::run::report::json::base64_unless_text;
use crate::run::stream_id::{STDOUT, StreamId};

/// One line of a job's output.
#[derive(Debug, Serialize)]
pub(crate) struct OutputLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    job: u64,
    /// The attempt at the job, from 1.
    attempt: u32,
    stream: &'static str,
    line: Cow<'a, str>,
    /// The exact bytes, where the line is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    line_base64: Option<String>,
    /// With `--tag`: the tag of the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<Cow<'a, str>>,
    /// The line continues in the next record of this stream.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

impl<'a> OutputLine<'a> {
    pub(crate) fn new(stream_id: StreamId, attempt: u32, line: &'a [u8]) -> Self {
        Self {
            kind: "output",
            job: stream_id.job,
            attempt,
            stream: if stream_id.stream == STDOUT {
                "stdout"
            } else {
                "stderr"
            },
            line: String::from_utf8_lossy(line),
            line_base64: base64_unless_text(line),
            tag: None,
            partial: false,
        }
    }

    pub(crate) fn with_tag(self, tag: Option<&'a [u8]>) -> Self {
        Self {
            tag: tag.map(String::from_utf8_lossy),
            ..self
        }
    }

    /// A part of a line that continues.
    pub(crate) fn partial(stream_id: StreamId, attempt: u32, part: &'a [u8]) -> Self {
        Self {
            partial: true,
            ..Self::new(stream_id, attempt, part)
        }
    }
}
