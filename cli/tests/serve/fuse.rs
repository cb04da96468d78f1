//! A file of a FUSE file system whose close never ends.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::service::TIMEOUT;

/// Opcodes of `<linux/fuse.h>`.
const OPEN: u32 = 14;
const FLUSH: u32 = 25;
const INIT: u32 = 26;

/// The file. Its own close, too, ends only with the file system.
pub(crate) struct StuckFile {
    path: PathBuf,
    file: Option<File>,
    flushed: mpsc::Receiver<()>,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl StuckFile {
    /// Mounts a file system that is one file.
    pub(crate) fn mount_at(path: &Path) -> Self {
        File::create_new(path).expect("it can be created");
        let mut options = File::options();
        let device = options.read(true).write(true).open("/dev/fuse");
        let device = device.expect("the kernel has FUSE");
        let number = device.as_raw_fd();
        let data = format!("fd={number},rootmode=100644,user_id=0,group_id=0,allow_other");
        let data = CString::new(data).expect("it has no zero byte");
        let flags = MountFlags::empty();
        mount("stuck", path, "fuse", flags, data.as_c_str()).expect("root may mount");
        let (flush, flushed) = mpsc::channel();
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let server = thread::spawn(move || serve(device, &flush, &ended));
        let file = File::open(path).expect("the file system answers");
        Self {
            path: path.into(),
            file: Some(file),
            flushed,
            ends,
            threads: vec![server],
        }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_ref().expect("it is open").as_fd()
    }

    /// Waits until a copy is about to be closed.
    pub(crate) fn wait_until_closing(&self) {
        let closing = self.flushed.recv_timeout(TIMEOUT);
        closing.expect("a copy is closed");
    }

    /// Closes this process's copy, on a thread. Otherwise each program that this process executes
    /// would wait for the close of its copy.
    pub(crate) fn close(&mut self) {
        let file = self.file.take();
        self.threads.push(thread::spawn(move || drop(file)));
        self.wait_until_closing();
    }
}

impl Drop for StuckFile {
    /// Ends the file system. With an error, all closes end, also those of children of other tests that
    /// were just being started.
    fn drop(&mut self) {
        let _ = unmount(&self.path, UnmountFlags::FORCE | UnmountFlags::DETACH);
        self.ends.store(true, Ordering::Release);
        self.threads.drain(..).for_each(|thread| {
            let _ = thread.join();
        });
    }
}

/// Answers requests until the file system ends. Leaves FLUSH without an answer.
fn serve(mut device: File, flushed: &mpsc::Sender<()>, ends: &AtomicBool) {
    let mut request = vec![0; 1 << 17];
    while !ends.load(Ordering::Acquire) {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        let mut fds = [PollFd::new(&device, PollFlags::IN)];
        if poll(&mut fds, Some(&timeout)).unwrap_or(0) == 0 {
            continue;
        }
        let Ok(count) = device.read(&mut request) else {
            return;
        };
        let word =
            |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("four bytes"));
        let unique = &request[8..16];
        assert!(count >= 40, "a request has a header");
        let (error, body) = match word(4) {
            // Version 7.31, no flags; up to 4096 bytes in a write.
            INIT => {
                let mut body = vec![0; 64];
                for (at, number) in [(0, 7_u32), (4, 31), (20, 4096)] {
                    body[at..at + 4].copy_from_slice(&number.to_ne_bytes());
                }
                (0, body)
            }
            OPEN => (0, vec![0; 16]),
            FLUSH => {
                let _ = flushed.send(());
                continue;
            }
            _ => (-libc::ENOSYS, Vec::new()),
        };
        let length = (16 + body.len()) as u32;
        let mut answer = length.to_ne_bytes().to_vec();
        answer.extend(i32::to_ne_bytes(error));
        answer.extend(unique);
        answer.extend(body);
        let _ = device.write_all(&answer);
    }
}
