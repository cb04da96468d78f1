//! The user-space memory of a live watch, counted in the allocator. The only test of its program,
//! because the counter is of the whole process.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use exitring::Watcher;

const WATCHES: usize = 10_000;
/// The record, the slot in the backend, and a callback of 24 bytes; without the handle.
const BYTES_MAX: usize = 160;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is forwarded to the system allocator, and only a number is kept.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller fulfils the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller fulfils the same contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_live_watch_with_a_callback_takes_at_most_160_bytes() {
    let watcher = Watcher::new().unwrap();
    // Elsewhere a watch may hold a descriptor, and ten thousand are not always available.
    if watcher.stats().backend != "io_uring" || !kernel_is_at_least(6, 9) {
        return;
    }
    let mut child = std::process::Command::new("sleep")
        .arg("100000")
        .spawn()
        .unwrap();
    let mut watches = Vec::with_capacity(WATCHES);
    let before = LIVE.load(Ordering::Relaxed);
    for index in 0..WATCHES as u64 {
        let watch = watcher.watch(child.id()).unwrap();
        let captured = [index, !index, 7];
        watch.on_exit(move |_| assert_eq!(captured[2], 7)).unwrap();
        watches.push(watch);
        // Commands that wait in the mailbox are not memory of a live watch.
        if index % 500 == 499 {
            while watcher.stats().armed <= index {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    let bytes = (LIVE.load(Ordering::Relaxed) - before) / WATCHES;
    println!("{bytes} bytes per watch");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(bytes <= BYTES_MAX, "{bytes} bytes per watch");
}
