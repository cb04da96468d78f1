//! Descriptors from systemd (sockets, and the pidfds in its store), or from the previous process
//! image.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

use crate::descriptors::{HANDOVER_VARIABLE, close_on_exec};

/// The name of a pidfd in systemd's store is this and the number of its watch.
const STORED_PREFIX: &str = "watch-";

/// The variables by which systemd passes descriptors, which are not for the next image.
pub(super) const SYSTEMD_VARIABLES: [&str; 3] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// What the service has inherited.
#[derive(Default)]
pub(crate) struct Inherited {
    pub(crate) socket: Option<UnixListener>,
    pub(crate) socket_lock: Option<File>,
    /// Device and inode of the socket file.
    pub(crate) socket_file: Option<(u64, u64)>,
    pub(crate) state_lock: Option<File>,
    /// By watch.
    pub(crate) pidfds: HashMap<u64, OwnedFd>,
    /// Whether a previous image executed this one in place: its children are ours.
    pub(crate) in_place: bool,
}

impl Inherited {
    /// Takes the inherited descriptors. To be called once, before there are other threads or
    /// descriptors.
    pub(crate) fn take() -> Self {
        let mut this = Self::default();
        // The parent may have left other descriptors open, which children must not inherit.
        close_on_exec();
        let handover = std::env::var(HANDOVER_VARIABLE).ok();
        let pid = format!("{}:", std::process::id());
        // Ignored if the environment was copied from another process.
        let handover = handover.as_deref().and_then(|text| text.strip_prefix(&pid));
        if let Some(items) = handover {
            this.in_place = true;
            for (name, fd) in items.split(',').filter_map(|item| item.split_once('=')) {
                if name == "socket_file" {
                    let ids = fd.split_once('.');
                    this.socket_file = ids.and_then(|(device, inode)| {
                        Some((device.parse().ok()?, inode.parse().ok()?))
                    });
                    continue;
                }
                let Some(fd) = fd.parse().ok().and_then(adopt) else {
                    continue;
                };
                match name {
                    "socket" => this.socket = Some(fd.into()),
                    "socket_lock" => this.socket_lock = Some(fd.into()),
                    "state_lock" => this.state_lock = Some(fd.into()),
                    _ => {}
                }
            }
        } else if let Ok(passed) = sd_notify::listen_fds_with_names() {
            for (fd, name) in passed {
                let Some(fd) = adopt(fd) else { continue };
                match name
                    .strip_prefix(STORED_PREFIX)
                    .and_then(|id| id.parse().ok())
                {
                    Some(watch) => _ = this.pidfds.insert(watch, fd),
                    None if this.socket.is_none() => this.socket = Some(fd.into()),
                    None => {}
                }
            }
        }
        this
    }
}

/// Takes ownership of an inherited descriptor, and sets close-on-exec.
fn adopt(fd: RawFd) -> Option<OwnedFd> {
    if fd <= 2 {
        return None;
    }
    // SAFETY: the borrow is only used for `fcntl`, which fails if the descriptor is not open.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    // Before Linux 5.11 `close_on_exec` does nothing.
    let flags = fcntl_getfd(borrowed).ok()?;
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC).ok()?;
    // SAFETY: it is open, was passed to this process by name, and nothing else has been opened yet
    // that could own it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Clears close-on-exec, and returns the environment variable that names the descriptors to the
/// next image. `socket_file`: device and inode.
pub(super) fn hand_over<'a>(
    fds: impl IntoIterator<Item = (&'a str, &'a OwnedFd)>,
    socket_file: Option<(u64, u64)>,
) -> std::io::Result<(&'static str, String)> {
    let mut items = Vec::new();
    for (name, fd) in fds {
        fcntl_setfd(fd, fcntl_getfd(fd)? - FdFlags::CLOEXEC)?;
        items.push(format!("{name}={}", fd.as_raw_fd()));
    }
    items.extend(socket_file.map(|(device, inode)| format!("socket_file={device}.{inode}")));
    Ok((
        HANDOVER_VARIABLE,
        format!("{}:{}", std::process::id(), items.join(",")),
    ))
}

/// The name of a watch's pidfd in systemd's store.
pub(super) fn stored_name(watch: u64) -> String {
    format!("{STORED_PREFIX}{watch}")
}
