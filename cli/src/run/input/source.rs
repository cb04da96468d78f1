//! The source of jobs: lines, or a template with arguments.
//!
//! It yields one job at a time.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

use super::lines::{ItemKind, Line, Lines};
use super::product::Product;
use super::template::{self, Template};
use crate::failure::Failure;
use crate::run::command_spec::CommandSpec;

pub(crate) struct Source {
    input: Input,
    template: Option<Template>,
    number: u64,
}

enum Input {
    Lines(Lines),
    Product(Product),
}

impl Source {
    /// Opens the source. Lines come from `file`; `-` or `None` is standard input. With `null`,
    /// items end with a NUL instead of a line end.
    pub(crate) fn open(
        file: Option<&Path>,
        null: bool,
        words: Vec<OsString>,
    ) -> Result<Self, Failure> {
        let (template, product) = match words.is_empty() {
            true => (None, None),
            false => {
                let (template, product) = template::parse(words)?;
                (Some(template), product)
            }
        };
        let kind = match (null, &template) {
            (true, _) => ItemKind::UpToNul,
            (false, Some(_)) => ItemKind::Arguments,
            (false, None) => ItemKind::Commands,
        };
        let input = match (product, file) {
            (Some(_), None) if null => {
                let cause = "--null needs a list, but the arguments come from :::";
                return Err(Failure::usage(cause).remedy("remove -0"));
            }
            (Some(_), Some(file)) => {
                let cause = format!(
                    "the arguments come from {} or from :::, not from both",
                    file.display()
                );
                return Err(Failure::usage(cause).remedy("remove one"));
            }
            (Some(product), None) => Input::Product(product),
            (None, Some(file)) if file != Path::new("-") => {
                Input::Lines(Lines::from_file(file, kind)?)
            }
            (None, _) => Input::Lines(Lines::from_stdin(kind, template.is_some())?),
        };
        // Jobs inherit /dev/null as standard input, so that they do not read the list.
        let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .and_then(rustix::stdio::dup2_stdin);
        null.map_err(|error| Failure::resource(format!("cannot open /dev/null: {error}")))?;
        Ok(Self {
            input,
            template,
            number: 0,
        })
    }

    /// The next command, with its number.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, CommandSpec)>, Failure> {
        let number = self.number + 1;
        let command = match &mut self.input {
            Input::Product(product) => {
                let template = self.template.as_ref();
                product
                    .next()
                    .zip(template)
                    .map(|(arguments, template)| template.fill(number, &arguments))
            }
            Input::Lines(lines) => lines.next()?.map(|line| match (line, &self.template) {
                (Line::Whole(line), Some(template)) => {
                    template.fill(number, &[OsStr::from_bytes(line)])
                }
                (Line::Whole(line), None) => CommandSpec::Line(OsString::from_vec(line.to_vec())),
                (Line::Invalid(why, start), _) => {
                    CommandSpec::Invalid(why, OsString::from_vec(start.to_vec()))
                }
            }),
        };
        self.number += u64::from(command.is_some());
        Ok(command.map(|command| (number, command)))
    }

    /// Whether the next command can be read without blocking.
    pub(crate) fn has_buffered_item(&self) -> bool {
        match &self.input {
            Input::Product(_) => true,
            Input::Lines(lines) => lines.has_buffered_item(),
        }
    }

    /// The estimated number of commands.
    pub(crate) fn estimate(&self) -> Option<u64> {
        match &self.input {
            Input::Product(product) => Some(product.len()),
            Input::Lines(lines) => Some((self.number as f64 * lines.inverse_progress()?) as u64),
        }
    }
}
