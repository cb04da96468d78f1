//! The commands that a run would execute (`--dry-run`).

use std::borrow::Cow;
use std::io;

use serde::Serialize;

use super::input::item::Item;
use super::input::selection::{Selected, Selection};
use super::report::json::{base64_unless_text, to_json_line};
use crate::code;
use crate::diagnostics::say;
use crate::failure::Failure;
use crate::run::command_spec::CommandSpec;
use crate::stdio::write_out;

/// Output is written in pieces of about this size.
const BUFFERED_MAX: usize = 64 * 1024;

/// A command, as a record.
#[derive(Debug, Serialize)]
struct PlannedCommand<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    job: u64,
    command: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_base64: Option<String>,
}

/// Prints the commands, one per line, or as records. Returns the exit code.
pub(super) fn print(mut selection: Selection, records: bool) -> Result<u8, Failure> {
    let mut buffer = Vec::new();
    let mut exit_code = code::OK;
    loop {
        let selected = selection.next()?;
        if selected.is_none() || buffer.len() > BUFFERED_MAX || !selection.has_buffered_item() {
            match write_out(&buffer) {
                Ok(()) => buffer.clear(),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(code::BROKEN_PIPE);
                }
                Err(error) => return Err(Failure::writing("standard output", &error)),
            }
        }
        let (number, command) = match selected {
            None => return Ok(exit_code),
            Some(Selected::Run(Item {
                number, command, ..
            })) => (number, command),
            Some(Selected::Notice(text)) => {
                say(&text);
                continue;
            }
            Some(Selected::DoneBefore { .. } | Selected::Skipped) => continue,
        };
        if let CommandSpec::Invalid(why, _) = command {
            say(&format!("job {number} could not be started: {why}\n"));
            exit_code = code::SOME_FAILED;
            continue;
        }
        // There is no slot before a job starts, so its place shows.
        let slot = 0;
        match records {
            true => buffer.extend(to_json_line(&PlannedCommand {
                kind: "command",
                job: number,
                command: command.text(slot),
                command_base64: base64_unless_text(&command.bytes(slot)),
            })),
            false => {
                buffer.extend_from_slice(&command.bytes(slot));
                buffer.push(b'\n');
            }
        }
    }
}
