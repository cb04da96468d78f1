//! The floor: threads that start a program with `posix_spawn(3)` and wait for it, and do nothing
//! else.

use std::ffi::CString;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

unsafe extern "C" {
    static environ: *const *mut libc::c_char;
}

/// Runs a program with arguments `count` times, in `threads` threads.
pub(crate) fn run(threads: usize, count: usize, command: &[String]) {
    let command = command.iter().map(|text| CString::new(text.as_str()));
    let command: Vec<CString> = command.collect::<Result<_, _>>().expect("no NUL byte");
    let started = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while started.fetch_add(1, Ordering::Relaxed) < count {
                    spawn_and_wait(&command);
                }
            });
        }
    });
}

fn spawn_and_wait(command: &[CString]) {
    let arguments = command.iter().map(|text| text.as_ptr().cast_mut());
    let argv: Vec<_> = arguments.chain([ptr::null_mut()]).collect();
    let (mut pid, mut status) = (0, 0);
    // SAFETY: the strings and lists are valid and end as C requires, and no thread changes the
    // environment.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            argv[0],
            ptr::null(),
            ptr::null(),
            argv.as_ptr(),
            environ,
        )
    };
    assert_eq!(error, 0, "posix_spawn fails");
    // SAFETY: the status is valid for the call.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!((waited, status), (pid, 0), "the program fails");
}
