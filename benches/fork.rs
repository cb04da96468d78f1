//! Measures `fork_watchable` and `vfork_watchable` in a process with 1 GB of touched memory. The
//! first copies the page tables, the second does not.
//!
//! Timed is the call. When it returns, a forked child is running, and a vforked child has ended.
//! The children exit at once.

#![allow(missing_docs, reason = "criterion_group! makes public functions")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use exitring::{Watch, Watcher};

const TOUCHED_BYTES: usize = 1 << 30;

fn time(iterations: u64, make: impl Fn() -> Watch) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..iterations {
        let start = Instant::now();
        let watch = make();
        spent += start.elapsed();
        watch.wait().expect("the watcher is alive");
        // SAFETY: the status pointer is null.
        unsafe { libc::waitpid(watch.pid().as_raw(), std::ptr::null_mut(), 0) };
    }
    spent
}

fn fork(criterion: &mut Criterion) {
    let touched = black_box(vec![1_u8; TOUCHED_BYTES]);
    let watcher = Watcher::new().expect("the watcher is built");
    let mut group = criterion.benchmark_group("1 GB touched");
    group.sample_size(20).sampling_mode(SamplingMode::Flat);
    group.bench_function("fork_watchable", |bencher| {
        bencher.iter_custom(|iterations| {
            // SAFETY: the child does nothing.
            let make = || unsafe { watcher.fork_watchable(|| ()) };
            time(iterations, || make().expect("fork works"))
        });
    });
    group.bench_function("vfork_watchable", |bencher| {
        bencher.iter_custom(|iterations| {
            // SAFETY: the child does nothing.
            let make = || unsafe { watcher.vfork_watchable(|| ()) };
            time(iterations, || make().expect("vfork works"))
        });
    });
    group.finish();
    drop(touched);
}

criterion_group!(benches, fork);
criterion_main!(benches);
