//! The lines of a list: commands, or arguments for a template.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::Path;

use crate::diagnostics::say;
use crate::failure::Failure;
use crate::stdio::Blocking;

/// The longest argument that the kernel accepts (`MAX_ARG_STRLEN`, 32 pages, including the NUL). A
/// line is an argument of a shell or of a template, so it cannot be longer either.
const LINE_LENGTH_MAX: usize = 128 * 1024 - 1;
/// Some editors put this mark before UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const READ_AT_ONCE: usize = 64 * 1024;

pub(crate) struct Lines {
    name: String,
    kind: ItemKind,
    /// The list has Windows line ends: a CR before the line feed belongs to the line end.
    crlf: bool,
    input: BufReader<Blocking<File>>,
    /// The length of a regular file, from which the number of jobs is estimated.
    length: Option<u64>,
    is_terminal: bool,
    consumed: u64,
    line: Vec<u8>,
}

/// What the items of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemKind {
    /// Commands, one per line. Blank lines and comments are skipped.
    Commands,
    /// Arguments for a template, one per line.
    Arguments,
    /// Commands or arguments, each terminated by this byte and used verbatim.
    UpTo(u8),
}

impl ItemKind {
    fn end(self) -> u8 {
        match self {
            Self::UpTo(end) => end,
            Self::Commands | Self::Arguments => b'\n',
        }
    }
}

pub(crate) enum Line<'a> {
    Whole(&'a [u8]),
    /// What is wrong, and the start of the line.
    Invalid(&'static str, &'a [u8]),
}

impl Lines {
    fn from_file(path: &Path, kind: ItemKind) -> Result<Self, Failure> {
        let file =
            File::open(path).map_err(|error| cannot_read(&path.display().to_string(), &error))?;
        Self::new(file, kind, path.display().to_string())
    }

    /// `path` may be `-` for standard input.
    pub(crate) fn open(path: &Path, kind: ItemKind, arguments: bool) -> Result<Self, Failure> {
        match path == Path::new("-") {
            true => Self::from_stdin(kind, arguments),
            false => Self::from_file(path, kind),
        }
    }

    /// Whether the items are typed at a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    fn from_stdin(kind: ItemKind, arguments: bool) -> Result<Self, Failure> {
        let name = "standard input".to_owned();
        if io::stdin().is_terminal() {
            let what = if arguments { "arguments" } else { "commands" };
            let each = match kind {
                ItemKind::UpTo(0) => "each terminated by a NUL".into(),
                ItemKind::UpTo(end) => format!("each terminated by '{}'", end.escape_ascii()),
                ItemKind::Commands | ItemKind::Arguments => "one per line".to_owned(),
            };
            say(&format!(
                "reading {what} from the terminal, {each}; Ctrl-D ends the input\n"
            ));
        }
        let file = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
            .map_err(|error| cannot_read(&name, &error.into()))?;
        Self::new(file.into(), kind, name)
    }

    fn new(file: File, kind: ItemKind, name: String) -> Result<Self, Failure> {
        let metadata = file
            .metadata()
            .map_err(|error| cannot_read(&name, &error))?;
        if metadata.is_dir() {
            return Err(Failure::usage(format!("{name} is a directory, not a list")));
        }
        let is_terminal = file.is_terminal();
        let length = metadata.is_file().then_some(metadata.len());
        let input = BufReader::with_capacity(READ_AT_ONCE, Blocking(file));
        Ok(Self {
            name,
            kind,
            crlf: false,
            input,
            length,
            is_terminal,
            consumed: 0,
            line: Vec::new(),
        })
    }

    /// What messages call the list.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether lines are commands, which may end with a comment.
    pub(super) fn have_comments(&self) -> bool {
        self.kind == ItemKind::Commands
    }

    /// Whether the next item can be read without blocking.
    pub(crate) fn has_buffered_item(&self) -> bool {
        let end = self.kind.end();
        let mut lines = self.input.buffer().split_inclusive(|byte| *byte == end);
        // Lines that are skipped would be followed by a read that may block.
        lines.any(|line| {
            line.ends_with(&[end]) && !self.kind.is_comment(line) && !self.kind.is_blank(line)
        })
    }

    /// The ratio of the file's length to the length that was read. `None`: not a regular file.
    pub(crate) fn inverse_progress(&self) -> Option<f64> {
        Some(self.length? as f64 / self.consumed.max(1) as f64)
    }

    pub(crate) fn next(&mut self) -> Result<Option<Line<'_>>, Failure> {
        let end = self.kind.end();
        loop {
            self.line.clear();
            // The limit includes all that is stripped. An item without an end within it is too
            // long.
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
            self.strip_windows_marks(first, has_end);
            let is_comment = self.kind.is_comment(&self.line);
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
                return Ok(Some(Line::Invalid(
                    "the line is longer than 131071 bytes, the maximum for one argument",
                    &self.line,
                )));
            }
            if !is_comment && !self.kind.is_blank(&self.line) {
                break;
            }
        }
        Ok(Some(match self.line.contains(&0) {
            true => Line::Invalid(
                "the line contains a NUL byte (-0 reads a list from find -print0)",
                &self.line,
            ),
            false => Line::Whole(&self.line),
        }))
    }

    /// Strips the byte order mark and the CRs of a list that was written on Windows. The first line
    /// decides: it ends with CR and LF. File names may end with CR too, so a list of arguments must
    /// also start with a byte order mark.
    fn strip_windows_marks(&mut self, first: bool, has_end: bool) {
        if matches!(self.kind, ItemKind::UpTo(_)) {
            return;
        }
        if first {
            let marked = self.line.starts_with(BYTE_ORDER_MARK);
            let commands = self.kind == ItemKind::Commands;
            self.crlf = has_end && self.line.last() == Some(&b'\r') && (marked || commands);
            if marked && (self.crlf || commands) {
                self.line.drain(..BYTE_ORDER_MARK.len());
            }
        }
        if self.crlf && self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
    }
}

impl ItemKind {
    fn is_comment(self, line: &[u8]) -> bool {
        let begin = line.iter().find(|byte| !byte.is_ascii_whitespace());
        self == Self::Commands && begin == Some(&b'#')
    }

    /// Whether the line has no command. An argument may be empty or blank.
    fn is_blank(self, line: &[u8]) -> bool {
        self == Self::Commands && line.iter().all(u8::is_ascii_whitespace)
    }
}

fn cannot_read(name: &str, error: &io::Error) -> Failure {
    let failure = Failure::usage(format!("cannot read {name}: {error}"));
    match error.kind() {
        io::ErrorKind::NotFound => {
            failure.remedy("check the path; a command follows --, as in: exitring run -- echo hi; without both, commands are read from standard input")
        }
        io::ErrorKind::PermissionDenied => {
            failure.remedy("check its mode and those of its directories")
        }
        _ => failure,
    }
}
