//! Where jobs come from: lines, or a template with arguments. One at a time, never all.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

use crate::diagnostics::say;
use crate::failure::Failure;
use crate::run::input::template::{self, Product, Template};
use crate::run::job::Order;
use crate::standard::Blocking;

/// The kernel takes no longer argument (`MAX_ARG_STRLEN`, 32 pages, the NUL among them), so no longer line either: not
/// for a shell, and no argument of a template.
const LINE_LENGTH_MAX: usize = 128 * 1024 - 1;
/// What some editors put before a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const READ_AT_ONCE: usize = 64 * 1024;

pub(crate) struct Source {
    from: From,
    template: Option<Template>,
    number: u64,
}

enum From {
    Lines(Lines),
    Product(Product),
}

struct Lines {
    name: String,
    items: Items,
    /// The list was written on Windows: the CR before the end of a line is a part of that end.
    crlf: bool,
    input: BufReader<Blocking<File>>,
    /// For the estimate of how many jobs there will be: of a regular file.
    length: Option<u64>,
    consumed: u64,
    line: Vec<u8>,
}

/// What a list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Items {
    /// Commands, one a line. Blank lines and comments are none.
    Commands,
    /// Arguments for a template, one a line.
    Arguments,
    /// Commands or arguments, each up to a NUL, as they are.
    UpToNul,
}

impl Items {
    fn end(self) -> u8 {
        match self {
            Self::UpToNul => 0,
            Self::Commands | Self::Arguments => b'\n',
        }
    }
}

impl Source {
    /// `file`: where lines come from, `-` or none for standard input. `null`: they are no lines, but items that end with a NUL.
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
        let items = match (null, &template) {
            (true, _) => Items::UpToNul,
            (false, Some(_)) => Items::Arguments,
            (false, None) => Items::Commands,
        };
        let from = match (product, file) {
            (Some(_), None) if null => {
                let cause = "--null is for a list, and the arguments come from :::";
                return Err(Failure::usage(cause).remedy("leave out -0"));
            }
            (Some(_), Some(file)) => {
                let cause = format!(
                    "the arguments come from {} or from :::, not from both",
                    file.display()
                );
                return Err(Failure::usage(cause).remedy("leave out one"));
            }
            (Some(product), None) => From::Product(product),
            (None, Some(file)) if file != Path::new("-") => {
                From::Lines(Lines::of_file(file, items)?)
            }
            (None, _) => From::Lines(Lines::of_stdin(items, template.is_some())?),
        };
        // Standard input is nothing to jobs, nor do they share what they would read from it.
        let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .and_then(rustix::stdio::dup2_stdin);
        null.map_err(|error| Failure::resource(format!("cannot open /dev/null: {error}")))?;
        Ok(Self {
            from,
            template,
            number: 0,
        })
    }

    /// The next one, with its number.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Order)>, Failure> {
        let number = self.number + 1;
        let order = match &mut self.from {
            From::Product(product) => {
                let template = self.template.as_ref();
                product
                    .next()
                    .zip(template)
                    .map(|(arguments, template)| Order::Words(template.fill(number, &arguments)))
            }
            From::Lines(lines) => lines.next()?.map(|line| match (line, &self.template) {
                (Line::Whole(line), Some(template)) => {
                    Order::Words(template.fill(number, &[OsStr::from_bytes(line)]))
                }
                (Line::Whole(line), None) => Order::Line(OsString::from_vec(line.to_vec())),
                (Line::Broken(why, start), _) => {
                    Order::Broken(why, OsString::from_vec(start.to_vec()))
                }
            }),
        };
        self.number += u64::from(order.is_some());
        Ok(order.map(|order| (number, order)))
    }

    /// Whether the next can be had without waiting for anybody.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.from {
            From::Product(_) => true,
            From::Lines(lines) => lines.input.buffer().contains(&lines.items.end()),
        }
    }

    /// How many there will be, as far as can be told.
    pub(crate) fn estimate(&self) -> Option<u64> {
        match &self.from {
            From::Product(product) => Some(product.len()),
            From::Lines(lines) => {
                let share = lines.length? as f64 / lines.consumed.max(1) as f64;
                Some((self.number as f64 * share) as u64)
            }
        }
    }
}

enum Line<'a> {
    Whole(&'a [u8]),
    /// What is wrong, and how it starts.
    Broken(&'static str, &'a [u8]),
}

impl Lines {
    fn of_file(path: &Path, items: Items) -> Result<Self, Failure> {
        let file =
            File::open(path).map_err(|error| cannot_read(&path.display().to_string(), &error))?;
        Self::of(file, items, path.display().to_string())
    }

    fn of_stdin(items: Items, arguments: bool) -> Result<Self, Failure> {
        let name = "standard input".to_owned();
        if io::stdin().is_terminal() {
            let what = if arguments { "arguments" } else { "commands" };
            let each = match items {
                Items::UpToNul => "each with a NUL behind it",
                Items::Commands | Items::Arguments => "one a line",
            };
            say(&format!(
                "reading {what} from the terminal, {each}; Ctrl-D ends them\n"
            ));
        }
        let file = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
            .map_err(|error| cannot_read(&name, &error.into()))?;
        Self::of(file.into(), items, name)
    }

    fn of(file: File, items: Items, name: String) -> Result<Self, Failure> {
        let metadata = file
            .metadata()
            .map_err(|error| cannot_read(&name, &error))?;
        if metadata.is_dir() {
            return Err(Failure::usage(format!(
                "{name} is a directory, and not a list of commands"
            )));
        }
        let length = metadata.is_file().then_some(metadata.len());
        let input = BufReader::with_capacity(READ_AT_ONCE, Blocking(file));
        Ok(Self {
            name,
            items,
            crlf: false,
            input,
            length,
            consumed: 0,
            line: Vec::new(),
        })
    }

    fn next(&mut self) -> Result<Option<Line<'_>>, Failure> {
        let end = self.items.end();
        loop {
            self.line.clear();
            // With all that is taken off; an item that has no end up to there is too long.
            let limit = LINE_LENGTH_MAX as u64 + BYTE_ORDER_MARK.len() as u64 + 2;
            let read = (&mut self.input)
                .take(limit)
                .read_until(end, &mut self.line);
            let read = read.map_err(|error| cannot_read(&self.name, &error))?;
            let first = self.consumed == 0;
            self.consumed += read as u64;
            if read == 0 {
                return Ok(None);
            }
            let has_end = self.line.last() == Some(&end);
            if has_end {
                self.line.pop();
            }
            self.take_off_what_windows_adds(first, has_end);
            let is_comment = self.is_comment();
            if self.line.len() > LINE_LENGTH_MAX {
                if !has_end {
                    let skipped = self
                        .input
                        .skip_until(end)
                        .map_err(|error| cannot_read(&self.name, &error))?;
                    self.consumed += skipped as u64;
                }
                if is_comment {
                    continue;
                }
                self.line.truncate(80);
                return Ok(Some(Line::Broken(
                    "the line is longer than the 131071 bytes that one argument may have",
                    &self.line,
                )));
            }
            if !is_comment && !self.is_blank() {
                break;
            }
        }
        Ok(Some(match self.line.contains(&0) {
            true => Line::Broken("the line contains a NUL byte", &self.line),
            false => Line::Whole(&self.line),
        }))
    }

    /// What was written on Windows may begin with a byte order mark, and its lines end with CR and LF: if the first one does. A name
    /// of a file may end with CR, too, so a list of arguments must have both.
    fn take_off_what_windows_adds(&mut self, first: bool, has_end: bool) {
        if self.items == Items::UpToNul {
            return;
        }
        if first {
            let marked = self.line.starts_with(BYTE_ORDER_MARK);
            let commands = self.items == Items::Commands;
            self.crlf = has_end && self.line.last() == Some(&b'\r') && (marked || commands);
            if marked && (self.crlf || commands) {
                self.line.drain(..BYTE_ORDER_MARK.len());
            }
        }
        if self.crlf && self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
    }

    fn is_comment(&self) -> bool {
        let begin = self.line.iter().find(|byte| !byte.is_ascii_whitespace());
        self.items == Items::Commands && begin == Some(&b'#')
    }

    /// A line without a command. An argument may be empty, or blank.
    fn is_blank(&self) -> bool {
        self.items == Items::Commands && self.line.iter().all(u8::is_ascii_whitespace)
    }
}

fn cannot_read(name: &str, error: &io::Error) -> Failure {
    let failure = Failure::usage(format!("cannot read {name}: {error}"));
    match error.kind() {
        io::ErrorKind::NotFound => {
            failure.remedy("check the path; a command stands after --, as in: exitring run -- echo hi; without either, lines of standard input are run")
        }
        io::ErrorKind::PermissionDenied => {
            failure.remedy("check its mode and those of its directories")
        }
        _ => failure,
    }
}
