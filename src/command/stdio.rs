//! What a standard stream of a child is.

use std::fmt;
use std::fs::File;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::Arc;

/// A standard stream of a child: inherited, `/dev/null`, a pipe, or an open file.
///
/// A file, socket or pipe converts into it: `command.stdout(File::create("log")?)`. Clones share
/// the file, so a command can be started any number of times.
#[derive(Clone)]
pub struct Stdio(pub(crate) Stream);

#[derive(Clone)]
pub(crate) enum Stream {
    Inherited,
    Null,
    Piped,
    File(Arc<OwnedFd>),
}

impl Stdio {
    /// The stream of this process. The default.
    pub fn inherit() -> Self {
        Self(Stream::Inherited)
    }

    /// `/dev/null`, which the child opens.
    pub fn null() -> Self {
        Self(Stream::Null)
    }

    /// A new pipe, whose other end is in the [`Child`](crate::Child).
    pub fn piped() -> Self {
        Self(Stream::Piped)
    }
}

macro_rules! from_files {
    ($($file:ty),*) => {$(
        impl From<$file> for Stdio {
            fn from(file: $file) -> Self {
                Self(Stream::File(Arc::new(file.into())))
            }
        }
    )*};
}

from_files!(
    OwnedFd,
    File,
    UnixStream,
    TcpStream,
    ChildStdin,
    ChildStdout,
    ChildStderr
);

impl From<Arc<OwnedFd>> for Stdio {
    fn from(file: Arc<OwnedFd>) -> Self {
        Self(Stream::File(file))
    }
}

impl fmt::Debug for Stdio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Stream::Inherited => f.write_str("Inherited"),
            Stream::Null => f.write_str("Null"),
            Stream::Piped => f.write_str("Piped"),
            Stream::File(file) => write!(f, "File({file:?})"),
        }
    }
}
