//! The socket, and that it is ours alone.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::store::lock_file;

/// How long a copy of a killed service's socket may be held.
const COPIES_LAST: Duration = Duration::from_secs(1);

/// A socket that clients connect to.
pub(super) struct Listener {
    pub(super) socket: UnixListener,
    /// Held as long as it is ours; `None`: systemd's.
    pub(super) lock: Option<File>,
    path: PathBuf,
}

impl Listener {
    /// Makes the socket. What is left of a service that is gone is replaced; the lock beside it makes sure that of two
    /// that start at the same moment one is refused.
    pub(super) fn bind(path: &Path, mode: u32) -> Result<Self> {
        let lock_path = beside(path, ".lock")?;
        let lock = lock_file(&lock_path)?.with_context(|| {
            format!(
                "another service has the socket {}; stop it, or choose another --socket",
                path.display()
            )
        })?;
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
            Ok(_) => {}
        }
        // Under another name until its mode is right, so that nobody connects before.
        let new = beside(path, ".new")?;
        let _ = fs::remove_file(&new);
        let socket =
            UnixListener::bind(&new).with_context(|| format!("binding {}", new.display()))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(mode))
            .and_then(|()| fs::rename(&new, path))
            .with_context(|| format!("making {}", path.display()))?;
        let (lock, path) = (Some(lock), path.to_owned());
        Ok(Self { socket, lock, path })
    }

    /// One that was open already.
    pub(super) fn inherited(socket: UnixListener, lock: Option<File>, path: &Path) -> Self {
        let path = path.to_owned();
        Self { socket, lock, path }
    }

    /// Takes the socket's name away, unless it is somebody else's.
    pub(super) fn unlink(&self) {
        if self.lock.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
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
