//! The open ends of a jobserver's pipe.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd, ioctl_fionread};
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

use super::auth::Auth;

/// Shells can redirect descriptors below this number by name, and scripts use them.
const INHERITED_MIN: RawFd = 10;
/// A page of a pipe that has been read in part takes no more bytes.
const PAGE: usize = 4096;

/// Both ends of the pipe, as open files of this process alone.
///
/// They are non-blocking. The open files that other processes share keep their flags: many clients
/// read them blocking. Because this process has the pipe open for writing, the kernel keeps it
/// and its tokens when the jobserver has ended, and a read finds no end of file.
#[derive(Debug)]
pub(super) struct Connection {
    read: File,
    write: File,
}

impl Connection {
    /// Connects to a jobserver. The error says what is missing.
    pub(super) fn open(auth: &Auth) -> Result<Self, String> {
        match auth {
            Auth::Pipe { read, write } if *read < 0 || *write < 0 => {
                Err("make does not pass it on to this program".into())
            }
            Auth::Pipe { read, write } => Self::open_pipe(*read, *write),
            Auth::Fifo(path) => {
                let path = Path::new(path);
                Self::open_file(path, path).map_err(|error| format!("{}: {error}", path.display()))
            }
            Auth::Unknown(_) => Err("its kind is unknown".into()),
        }
    }

    fn open_pipe(read: RawFd, write: RawFd) -> Result<Self, String> {
        let identity = |number: RawFd| match fs::metadata(path_of(&number)) {
            Ok(metadata) => Ok((metadata.dev(), metadata.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("descriptor {number} is not open"))
            }
            Err(error) => Err(format!("descriptor {number}: {error}")),
        };
        // Other files that happen to have these numbers are neither read nor written.
        if identity(read)? != identity(write)? {
            return Err(format!(
                "descriptors {read} and {write} are not the ends of one pipe"
            ));
        }
        Self::open_file(&path_of(&read), &path_of(&write))
            .map_err(|error| format!("descriptors {read} and {write}: {error}"))
    }

    fn open_file(read: &Path, write: &Path) -> io::Result<Self> {
        let nonblocking = OFlags::NONBLOCK.bits() as i32;
        // The open of another kind of file may have an effect.
        if !fs::metadata(read)?.file_type().is_fifo() {
            return Err(io::Error::other("not a pipe"));
        }
        let mut options = OpenOptions::new();
        options.custom_flags(nonblocking);
        // The reader first: the open of a non-blocking writer needs one.
        let read = options.read(true).open(read)?;
        let write = options.read(false).write(true).open(write)?;
        Ok(Self { read, write })
    }

    /// Creates a pipe, which children inherit.
    pub(super) fn create_pipe() -> io::Result<(Self, Auth)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let connection = Self::open_file(&path_of(&read), &path_of(&write))?;
        let inherited = |end: OwnedFd| {
            let end = fcntl_dupfd_cloexec(end, INHERITED_MIN)?;
            fcntl_setfd(&end, FdFlags::empty())?;
            // It stays open until this process ends, and its number is in the environment.
            Ok::<_, io::Error>(end.into_raw_fd())
        };
        let auth = Auth::Pipe {
            read: inherited(read)?,
            write: inherited(write)?,
        };
        Ok((connection, auth))
    }

    /// Creates a FIFO.
    pub(super) fn create_fifo(path: &Path) -> io::Result<(Self, Auth)> {
        mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR)?;
        let connection = Self::open_file(path, path)?;
        Ok((connection, Auth::Fifo(path.into())))
    }

    /// Puts the first tokens into a new pipe, and has it take `more` later.
    pub(super) fn fill(&self, tokens: usize, more: usize) -> io::Result<()> {
        let bytes = tokens.saturating_add(more).saturating_add(PAGE);
        if fcntl_getpipe_size(&self.write)? < bytes {
            fcntl_setpipe_size(&self.write, bytes)?;
        }
        (0..tokens).try_for_each(|_| self.give(b'+'))
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        match (&self.read).read(&mut byte) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(Some(byte[0])),
            Err(error) => match error.kind() {
                // After an interrupt the epoll reports the token again.
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Puts a token back.
    pub(super) fn give(&self, byte: u8) -> io::Result<()> {
        (&self.write).write_all(&[byte])
    }

    /// The number of tokens in the pipe.
    pub(super) fn available(&self) -> io::Result<usize> {
        Ok(usize::try_from(ioctl_fionread(&self.read)?).unwrap_or(usize::MAX))
    }
}

/// An open of this name opens the file of the descriptor anew, with flags of its own.
fn path_of(descriptor: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd()).into()
}

impl AsFd for Connection {
    /// Readable while there are tokens.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}
