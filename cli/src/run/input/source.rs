//! The source of jobs: lines, or a template with arguments.
//!
//! It yields one job at a time.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, open};

use super::batches::Batches;
use super::directive;
use super::extras::Extras;
use super::item::Item;
use super::lines::{Line, Lines};
use super::opening;
use super::product::{Combination, Product};
use super::rounds::{Repeated, Rounds};
use super::template::Template;
use crate::failure::Failure;
use crate::run::claim::Claim;
use crate::run::command_spec::CommandSpec;

/// Where jobs come from.
#[derive(Debug)]
pub(crate) struct ListOptions {
    /// The list; `-` or `None` is standard input.
    pub(crate) file: Option<PathBuf>,
    /// Items end with this byte, and not with the line.
    pub(crate) end: Option<u8>,
    /// The template, and the lists after it.
    pub(crate) template: Vec<OsString>,
    /// Each job gets up to as many arguments of one list.
    pub(crate) max_args: Option<usize>,
    /// A template for what precedes each line of a job's output.
    pub(crate) tag: Option<OsString>,
    /// What jobs read: `null`, `arg`, or a template for the name of a file.
    pub(crate) stdin: Option<OsString>,
    /// Jobs need names for a report.
    pub(crate) names: bool,
    /// How often the list runs.
    pub(crate) repeat: Repeat,
}

/// How often a list runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    Once,
    Times(u32),
    WithoutEnd,
}

pub(crate) struct Source {
    input: Input,
    extras: Extras,
    number: u64,
    /// If the list runs several times.
    rounds: Option<Rounds>,
}

/// The lists that are read.
pub(super) enum Input {
    Commands(Lines),
    Arguments(Template, Product),
    Batches(Template, Batches),
}

impl Source {
    /// Opens the lists that the options name.
    pub(crate) fn open(options: &ListOptions) -> Result<Self, Failure> {
        let (input, extras) = opening::open(options)?;
        // Jobs inherit /dev/null as standard input, so that they do not read the list.
        let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .and_then(rustix::stdio::dup2_stdin);
        null.map_err(|error| Failure::resource(format!("cannot open /dev/null: {error}")))?;
        Ok(Self {
            input,
            extras,
            number: 0,
            rounds: match options.repeat {
                Repeat::Once => None,
                Repeat::Times(times) => Some(Rounds::new(Some(times))),
                Repeat::WithoutEnd => Some(Rounds::new(None)),
            },
        })
    }

    /// Whether the list is typed at a terminal while jobs run.
    pub(crate) fn reads_terminal(&self) -> bool {
        match &self.input {
            Input::Commands(lines) => lines.is_terminal(),
            Input::Arguments(_, product) => product.reads_terminal(),
            Input::Batches(_, batches) => batches.items().reads_terminal(),
        }
    }

    /// The next job. `None` at the end of the list, which may begin again.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, Failure> {
        if self.later_round().is_some() {
            return Ok(self.next_repeated());
        }
        let number = self.number + 1;
        let extras = &self.extras;
        let rounds = &mut self.rounds;
        let mut hold = |arguments: &[&OsStr]| {
            if let Some(rounds) = rounds {
                rounds.hold(arguments.iter().map(|argument| argument.as_bytes()));
            }
        };
        let item = match &mut self.input {
            Input::Commands(lines) => {
                let have_comments = lines.have_comments();
                lines.next()?.map(|line| match line {
                    Line::Whole(whole) => split_line(whole, have_comments)
                        .map(|(line, claim)| {
                            // Later rounds split it again.
                            hold(&[OsStr::from_bytes(whole)]);
                            Combination::Arguments((
                                CommandSpec::Line(line.to_owned()),
                                extras.fill_line(number, line, claim),
                            ))
                        })
                        .unwrap_or_else(|why| {
                            Combination::Invalid(why, OsString::from_vec(whole.to_vec()))
                        }),
                    Line::Invalid(why, start) => {
                        Combination::Invalid(why, OsString::from_vec(start.to_vec()))
                    }
                })
            }
            Input::Arguments(template, product) => product.next(|arguments| {
                hold(arguments);
                (
                    template.fill(number, arguments),
                    extras.fill(number, arguments),
                )
            })?,
            Input::Batches(template, batches) => batches.next(|arguments| {
                hold(arguments);
                (
                    template.fill(number, arguments),
                    extras.fill(number, arguments),
                )
            })?,
        };
        let Some(item) = item else {
            return Ok(None);
        };
        let (command, details) = match item {
            Combination::Arguments(filled) => filled,
            Combination::Invalid(why, start) => {
                if let Some(rounds) = &mut self.rounds {
                    rounds.hold_invalid(why, start.as_bytes());
                }
                (CommandSpec::Invalid(why, start), None)
            }
        };
        self.number = number;
        if let Some(rounds) = &self.rounds {
            rounds.check_size()?;
        }
        Ok(Some(Item {
            number,
            position: number,
            repeat: self.rounds.as_ref().map_or(0, Rounds::round),
            command,
            details,
        }))
    }

    /// The next job of a later round.
    fn next_repeated(&mut self) -> Option<Item> {
        let number = self.number + 1;
        let rounds = self.rounds.as_mut()?;
        let repeat = rounds.round();
        let (position, job) = rounds.next()?;
        let (command, details) = match job {
            Repeated::Invalid(why, start) => (CommandSpec::Invalid(why, start.to_owned()), None),
            Repeated::Arguments(arguments) => match &self.input {
                Input::Commands(lines) => {
                    let whole = arguments.first().copied().unwrap_or_default();
                    match split_line(whole.as_bytes(), lines.have_comments()) {
                        Ok((line, claim)) => (
                            CommandSpec::Line(line.to_owned()),
                            self.extras.fill_line(number, line, claim),
                        ),
                        Err(why) => (CommandSpec::Invalid(why, whole.to_owned()), None),
                    }
                }
                Input::Arguments(template, _) | Input::Batches(template, _) => (
                    template.fill(number, &arguments),
                    self.extras.fill(number, &arguments),
                ),
            },
        };
        self.number = number;
        Some(Item {
            number,
            position,
            repeat,
            command,
            details,
        })
    }

    /// Begins the list again. `false`: it has run as often as asked for, or is empty.
    pub(crate) fn next_round(&mut self) -> bool {
        self.rounds.as_mut().is_some_and(Rounds::begin_next)
    }

    /// How often the list runs; `None`: without end.
    pub(crate) fn rounds(&self) -> Option<u32> {
        self.rounds.as_ref().map_or(Some(1), Rounds::limit)
    }

    fn later_round(&self) -> Option<&Rounds> {
        self.rounds.as_ref().filter(|rounds| !rounds.is_first())
    }

    /// Whether the next command can be read without blocking.
    pub(crate) fn has_buffered_item(&self) -> bool {
        if self.later_round().is_some() {
            return true;
        }
        match &self.input {
            Input::Commands(lines) => lines.has_buffered_item(),
            Input::Arguments(_, product) => product.has_buffered_item(),
            // The next job needs several items, of which only some may be buffered.
            Input::Batches(_, batches) => batches.items().streamed().is_none(),
        }
    }

    /// The estimated number of commands in the list.
    pub(crate) fn estimate(&self) -> Option<u64> {
        if let Some(rounds) = self.later_round() {
            return Some(rounds.len());
        }
        let (lines, known) = match &self.input {
            Input::Commands(lines) => (Some(lines), None),
            Input::Arguments(_, product) => (product.streamed(), product.len()),
            Input::Batches(_, batches) => (batches.items().streamed(), batches.len()),
        };
        let estimated = || Some((self.number as f64 * lines?.inverse_progress()?) as u64);
        known.or_else(estimated)
    }
}

/// The command of a line, and the claim of its job.
fn split_line(line: &[u8], have_comment: bool) -> Result<(&OsStr, Option<Claim>), &'static str> {
    let (line, claim) = match have_comment {
        true => directive::split(line)?,
        false => (line, None),
    };
    Ok((OsStr::from_bytes(line), claim))
}
