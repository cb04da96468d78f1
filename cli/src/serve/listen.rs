//! The socket, and that it is ours alone.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use super::named_file::{NamedFile, touch};
use super::store::{is_at, lock_file};

/// How long a copy of a killed service's socket may be held.
const COPIES_LAST: Duration = Duration::from_secs(1);
/// As many connections may wait to be taken as the kernel allows.
const BACKLOG: i32 = -1;

/// A socket that clients connect to.
pub(super) struct Listener {
    pub(super) socket: UnixListener,
    /// What is ours beside it; `None`: it is systemd's.
    pub(super) own: Option<Own>,
    path: PathBuf,
}

/// What a service has that made its socket itself.
pub(super) struct Own {
    pub(super) lock: File,
    /// The socket in its folder; `None`: it was not there when it was looked for.
    pub(super) file: Option<NamedFile>,
    mode: u32,
}

impl Listener {
    /// Makes the socket. What is left of a service that is gone is replaced; the lock beside it makes sure that of two
    /// that start at the same moment one is refused.
    pub(super) fn bind(path: &Path, mode: u32) -> Result<Self> {
        let lock = lock(path)?;
        let (socket, file) = make(path, mode)?;
        let own = Own {
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

    /// Systemd's.
    pub(super) fn inherited(socket: UnixListener, path: &Path) -> Self {
        Self {
            socket,
            own: None,
            path: path.to_owned(),
        }
    }

    /// Ours, of the image before this one. `ids`: device and inode of the socket in its folder, which images of older versions do
    /// not tell; to them nothing else could be there.
    pub(super) fn anew(
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
            own: Some(Own { lock, file, mode }),
            path: path.to_owned(),
        }
    }

    /// Whether the socket is where clients look for it.
    pub(super) fn is_gone(&self) -> bool {
        let of = |own: &Own| own.file.as_ref().is_none_or(NamedFile::is_gone);
        self.own.as_ref().is_some_and(of)
    }

    /// Makes the lock again if it was deleted. If another service has that name by now, the socket is not ours either, which
    /// is found out when it has to be made again.
    pub(super) fn keep_lock(&mut self) {
        if let Some(own) = &mut self.own
            && let Ok(path) = beside(&self.path, ".lock")
            && !is_at(&own.lock, &path)
            && let Ok(lock) = lock(&self.path)
        {
            own.lock = lock;
            tracing::warn!(lock = %path.display(), "the lock was deleted, and is made again");
        }
    }

    /// Makes it again where it is gone. Who is connected stays so; who waits to be taken is, before the old one is closed.
    pub(super) fn make_again(&mut self) -> Result<()> {
        let Some(own) = &mut self.own else {
            return Ok(());
        };
        own.file = None;
        if !is_at(&own.lock, &beside(&self.path, ".lock")?) {
            own.lock = lock(&self.path)?;
        }
        let (socket, file) = make(&self.path, own.mode)?;
        self.socket = socket;
        own.file = Some(file);
        Ok(())
    }

    /// Keeps the lock from what deletes files that are old; the socket it spares as long as somebody listens.
    pub(super) fn touch(&self) {
        if self.own.is_some()
            && let Ok(lock) = beside(&self.path, ".lock")
        {
            touch(&lock);
        }
    }

    /// Takes the socket's name away, unless it is somebody else's.
    pub(super) fn unlink(&self) {
        if self.own.is_some() && !self.is_gone() {
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

/// Makes a socket of this name, whose lock we have.
///
/// It is bound in place: what deletes old sockets spares those that the kernel lists by the name that they have. Nobody can
/// connect before it listens, which it does when its mode is right.
fn make(path: &Path, mode: u32) -> Result<(UnixListener, NamedFile)> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("looking at {}", path.display()));
        }
        Ok(there) if !there.file_type().is_socket() => {
            bail!(
                "{} is there, and no socket; choose another --socket",
                path.display()
            )
        }
        Ok(_) if is_served(path) => {
            bail!(
                "somebody answers on the socket {}; stop it, or choose another --socket",
                path.display()
            )
        }
        Ok(_) => fs::remove_file(path).with_context(|| format!("replacing {}", path.display()))?,
    }
    let made = || -> io::Result<(OwnedFd, NamedFile)> {
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
    let (socket, file) = made().with_context(|| format!("making the socket {}", path.display()))?;
    Ok((socket.into(), file))
}

/// Whether somebody listens, and goes on to. A process that is being started when its service is killed has a copy of the
/// socket until it notices, which is soon.
fn is_served(path: &Path) -> bool {
    let start = Instant::now();
    while UnixStream::connect(path).is_ok() {
        if start.elapsed() > COPIES_LAST {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn beside(path: &Path, ending: &str) -> Result<PathBuf> {
    let mut name = path
        .file_name()
        .with_context(|| format!("{} is no name of a socket", path.display()))?
        .to_owned();
    name.push(ending);
    Ok(path.with_file_name(name))
}
