//! Descriptors that came from before: from systemd (sockets, and the pidfds of its store), or from the process image that
//! executed this one in place.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// What one image leaves to the next: names and descriptors.
pub(crate) const HANDOVER: &str = "EXITRING_SERVE_HANDOVER";
/// Pidfds in systemd's store are called this and the number of their watch.
const STORED: &str = "watch-";

#[derive(Default)]
pub(super) struct Inherited {
    pub(super) socket: Option<UnixListener>,
    pub(super) socket_lock: Option<File>,
    /// Device and inode of the socket in its folder.
    pub(super) socket_file: Option<(u64, u64)>,
    pub(super) state_lock: Option<File>,
    /// By watch.
    pub(super) pidfds: HashMap<u64, OwnedFd>,
    /// By an image before this one: its children are ours.
    pub(super) in_place: bool,
}

/// Has all descriptors but the standard streams closed in what is executed from now on.
pub(crate) fn close_on_exec() {
    // SAFETY: closes nothing; sets a flag on descriptors.
    unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
}

impl Inherited {
    /// Takes what there is. Called once, before there are other threads or descriptors.
    pub(super) fn take() -> Self {
        let mut this = Self::default();
        // Whoever started us may have left others open: they are none of our children's business.
        close_on_exec();
        let handover = std::env::var(HANDOVER).ok();
        let pid = format!("{}:", std::process::id());
        // Of this process, and not of one whose environment was copied.
        let handover = handover.as_deref().and_then(|left| left.strip_prefix(&pid));
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
                let Some(fd) = fd.parse().ok().and_then(own) else {
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
                let Some(fd) = own(fd) else { continue };
                match name.strip_prefix(STORED).and_then(|id| id.parse().ok()) {
                    Some(watch) => _ = this.pidfds.insert(watch, fd),
                    None if this.socket.is_none() => this.socket = Some(fd.into()),
                    None => {}
                }
            }
        }
        this
    }
}

/// A descriptor that the one before left to us, close-on-exec from now on.
fn own(fd: RawFd) -> Option<OwnedFd> {
    if fd <= 2 {
        return None;
    }
    // SAFETY: no more than asked whether it is open.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    // Before Linux 5.11 it was not done for all at once.
    let flags = fcntl_getfd(borrowed).ok()?;
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC).ok()?;
    // SAFETY: it is open, was left to this process by name, and nothing else has been opened yet that could own it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The variable that leaves descriptors to the next image, which they are made to survive into. `socket_file`: device and inode.
pub(super) fn leave<'a>(
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
        HANDOVER,
        format!("{}:{}", std::process::id(), items.join(",")),
    ))
}

/// What the pidfd of a watch is called in systemd's store.
pub(super) fn stored_name(watch: u64) -> String {
    format!("{STORED}{watch}")
}

/// What systemd has said to this image, and is not for the next.
pub(super) const FROM_SYSTEMD: [&str; 3] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
