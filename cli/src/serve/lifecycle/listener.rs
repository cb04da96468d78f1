//! The listening socket, its file, and the lock that keeps other services away from it.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use crate::serve::sys::lock_file::{is_at, lock_file};
use crate::serve::sys::named_file::{NamedFile, touch};

/// How long children of a killed service may keep copies of its socket.
const COPIES_MAX: Duration = Duration::from_secs(1);
/// The kernel's limit of connections that wait to be accepted.
const BACKLOG: i32 = -1;

/// The socket that clients connect to.
pub(crate) struct Listener {
    pub(crate) socket: UnixListener,
    /// `None` if the socket is systemd's.
    pub(super) own: Option<OwnSocket>,
    path: PathBuf,
}

/// The files of a socket that the service has created itself.
pub(super) struct OwnSocket {
    pub(super) lock: File,
    /// The socket file. `None` if it did not exist when it was last looked up.
    pub(super) file: Option<NamedFile>,
    mode: u32,
}

impl Listener {
    /// Creates the socket, and replaces the socket of a service that is gone. If two services start
    /// at the same moment, the lock makes sure that one of them is refused.
    pub(crate) fn bind(path: &Path, mode: u32) -> Result<Self> {
        let lock = lock(path)?;
        let (socket, file) = create(path, mode)?;
        let own = OwnSocket {
            lock,
            file: Some(file),
            mode,
        };
        Ok(Self {
            socket,
            own: Some(own),
            path: path.to_owned(),
        })
    }

    /// A socket of systemd.
    pub(crate) fn from_systemd(socket: UnixListener, path: &Path) -> Self {
        Self {
            socket,
            own: None,
            path: path.to_owned(),
        }
    }

    /// The socket of the previous image. `ids`: device and inode of the socket file, which older
    /// versions do not hand over. They replaced any other file, so the file at the path is theirs.
    pub(crate) fn from_previous_image(
        socket: UnixListener,
        lock: File,
        ids: Option<(u64, u64)>,
        path: &Path,
        mode: u32,
    ) -> Self {
        let file = match ids {
            Some((device, inode)) => Some(NamedFile {
                path: path.to_owned(),
                device,
                inode,
            }),
            None => NamedFile::at(path).ok(),
        };
        Self {
            socket,
            own: Some(OwnSocket { lock, file, mode }),
            path: path.to_owned(),
        }
    }

    /// Whether the socket file was deleted or replaced.
    pub(crate) fn is_missing(&self) -> bool {
        let of = |own: &OwnSocket| own.file.as_ref().is_none_or(NamedFile::is_missing);
        self.own.as_ref().is_some_and(of)
    }

    /// Creates the lock file again if it was deleted. This fails if another service has taken the
    /// lock. Then the socket file is that service's, too, and `recreate` reports it.
    pub(crate) fn keep_lock(&mut self) {
        if let Some(own) = &mut self.own
            && let Ok(path) = beside(&self.path, ".lock")
            && !is_at(&own.lock, &path)
            && let Ok(lock) = lock(&self.path)
        {
            own.lock = lock;
            tracing::warn!(lock = %path.display(), "the lock file was deleted, and has been created again");
        }
    }

    /// Creates the socket again after its file was deleted or replaced. Existing connections
    /// continue. The caller accepts the waiting ones before this closes the old socket.
    pub(crate) fn recreate(&mut self) -> Result<()> {
        let Some(own) = &mut self.own else {
            return Ok(());
        };
        own.file = None;
        if !is_at(&own.lock, &beside(&self.path, ".lock")?) {
            own.lock = lock(&self.path)?;
        }
        let (socket, file) = create(&self.path, own.mode)?;
        self.socket = socket;
        own.file = Some(file);
        Ok(())
    }

    /// Protects the lock file from cleaners of old files. They spare a socket that is listening.
    pub(crate) fn touch(&self) {
        if self.own.is_some()
            && let Ok(lock) = beside(&self.path, ".lock")
        {
            touch(&lock);
        }
    }

    /// Deletes the socket file, unless another process has replaced it.
    pub(crate) fn unlink(&self) {
        if self.own.is_some() && !self.is_missing() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn lock(path: &Path) -> Result<File> {
    lock_file(&beside(path, ".lock")?)?.with_context(|| {
        format!(
            "another service has the socket {}; stop it, or choose another --socket",
            path.display()
        )
    })
}

/// Creates a socket. The caller has its lock.
///
/// The socket is bound at its final path, and not renamed: cleaners of old files spare the sockets
/// that the kernel lists, by the path that they were bound at. Nobody can connect before it
/// listens, and it listens only after its mode is set.
fn create(path: &Path, mode: u32) -> Result<(UnixListener, NamedFile)> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("inspecting {}", path.display()));
        }
        Ok(found) if !found.file_type().is_socket() => {
            bail!(
                "{} exists and is not a socket; choose another --socket",
                path.display()
            )
        }
        Ok(_) if is_served(path) => {
            bail!(
                "another process listens on the socket {}; stop it, or choose another --socket",
                path.display()
            )
        }
        Ok(_) => fs::remove_file(path).with_context(|| format!("replacing {}", path.display()))?,
    }
    let create = || -> io::Result<(OwnedFd, NamedFile)> {
        let address = SocketAddrUnix::new(path)?;
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        bind(&socket, &address)?;
        let file = NamedFile::at(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        listen(&socket, BACKLOG)?;
        Ok((socket, file))
    };
    let (socket, file) =
        create().with_context(|| format!("creating the socket {}", path.display()))?;
    Ok((socket.into(), file))
}

/// Whether a process listens on a socket, and continues to. When a service is killed, a child that
/// it is just starting keeps a copy of the socket until it notices.
fn is_served(path: &Path) -> bool {
    let start = Instant::now();
    while is_connectable(path) {
        if start.elapsed() > COPIES_MAX {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// Whether a process listens on a socket, be its backlog full. Does not block.
fn is_connectable(path: &Path) -> bool {
    let connected = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)
    };
    matches!(connected(), Ok(()) | Err(Errno::AGAIN))
}

fn beside(path: &Path, suffix: &str) -> Result<PathBuf> {
    let mut name = path
        .file_name()
        .with_context(|| format!("{} has no file name", path.display()))?
        .to_owned();
    name.push(suffix);
    Ok(path.with_file_name(name))
}
