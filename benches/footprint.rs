//! Measures the user-space memory (counted in the allocator) and the descriptors of a live watch,
//! and the duration of `watch()` while callbacks sleep 10 ms. The durations are printed as
//! percentiles, because a mean would hide the slow calls.

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use exitring::Watcher;

const WATCHES: usize = 10_000;
const CHILDREN: usize = 5_000;
const REGISTRATIONS: usize = 100_000;

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

fn until_armed(watcher: &Watcher, watches: u64) {
    while watcher.stats().armed < watches {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Measures children that the watcher owns. They are forked, which gives the same numbers as a
/// spawn: a `Command` leaves no memory behind.
fn owned_children() {
    let watcher = Watcher::new().expect("the watcher is built");
    let mut children = Vec::with_capacity(CHILDREN);
    let before = LIVE.load(Ordering::Relaxed);
    for _ in 0..CHILDREN {
        // SAFETY: the child makes only system calls.
        let pid = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                loop {
                    libc::pause();
                }
            }
            pid
        };
        let mut child = watcher.adopt_pid(pid).expect("it is a child");
        child.kill_on_drop(true);
        children.push(child);
    }
    until_armed(&watcher, CHILDREN as u64);
    let bytes = LIVE.load(Ordering::Relaxed) - before + CHILDREN * size_of_val(&children[0]);
    println!("live owned children:          {CHILDREN}");
    println!("user-space bytes per child:   {}", bytes / CHILDREN);
    println!(
        "descriptors in all:           {}",
        watcher.stats().descriptors
    );
    drop(children);
    while watcher.stats().watched > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn main() {
    let mut child = Command::new("sleep")
        .arg("100000")
        .spawn()
        .expect("sleep starts");
    let pid = child.id();

    let watcher = Watcher::new().expect("the watcher is built");
    let mut watches = Vec::with_capacity(WATCHES);
    let before = LIVE.load(Ordering::Relaxed);
    for _ in 0..WATCHES {
        let watch = watcher.watch(pid).expect("it is alive");
        watch.on_exit(|_| ()).expect("the watcher is alive");
        watches.push(watch);
    }
    until_armed(&watcher, WATCHES as u64);
    let bytes = LIVE.load(Ordering::Relaxed) - before + WATCHES * size_of_val(&watches[0]);
    println!("live watches with a callback: {WATCHES}");
    println!("user-space bytes per watch:   {}", bytes / WATCHES);
    println!(
        "descriptors in all:           {}",
        watcher.stats().descriptors
    );
    drop(watches);
    drop(watcher);
    owned_children();

    let watcher = Watcher::new().expect("the watcher is built");
    let done = AtomicBool::new(false);
    let mut latencies: Vec<Duration> = std::thread::scope(|scope| {
        // Keeps a sleeping callback running all the time.
        let mut short = Command::new("true").spawn().expect("true starts");
        let (watcher, done) = (&watcher, &done);
        scope.spawn(move || {
            let watch = watcher.watch(short.id()).expect("it is a child");
            while !done.load(Ordering::Relaxed) {
                let callback = |_: &exitring::Exit| std::thread::sleep(Duration::from_millis(10));
                watch.on_exit(callback).expect("the watcher is alive");
                std::thread::sleep(Duration::from_millis(9));
            }
            short.wait().expect("it is a child");
        });
        let latencies = (0..REGISTRATIONS).map(|_| {
            let start = Instant::now();
            let watch = watcher.watch(pid).expect("it is alive");
            let spent = start.elapsed();
            drop(watch);
            spent
        });
        let latencies = latencies.collect();
        done.store(true, Ordering::Relaxed);
        latencies
    });
    latencies.sort_unstable();
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let latency = latencies[(REGISTRATIONS as f64 * quantile) as usize];
        println!("watch() {name} while a callback sleeps 10 ms: {latency:?}");
    }
    child.kill().expect("it is a child");
    child.wait().expect("it is a child");
}
