//! The floor: threads that start a program with `posix_spawn(3)` and wait for it, and do nothing
//! else.

use std::ffi::CString;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

unsafe extern "C" {
    static environ: *const *mut libc::c_char;
}

/// Runs the program `count` times, in `threads` threads.
pub(crate) fn run(threads: usize, count: usize, program: &str) {
    let program = CString::new(program).expect("the program has no NUL byte");
    let started = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while started.fetch_add(1, Ordering::Relaxed) < count {
                    spawn_and_wait(&program);
                }
            });
        }
    });
}

fn spawn_and_wait(program: &CString) {
    let argv = [program.as_ptr().cast_mut(), ptr::null_mut()];
    let (mut pid, mut status) = (0, 0);
    // SAFETY: the strings and lists are valid and end as C requires, and no thread changes the
    // environment.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
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
