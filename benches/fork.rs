//! Making a child in a process with 1 GB of touched memory: `fork_watchable` copies the page tables,
//! `vfork_watchable` does not. Timed from the call to its return, when with fork the child runs, and with vfork it
//! has ended; the children only end.

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
        watch.wait().expect("the watcher lives");
        // SAFETY: no status is asked for.
        unsafe { libc::waitpid(watch.pid().as_raw(), std::ptr::null_mut(), 0) };
    }
    spent
}

fn fork(criterion: &mut Criterion) {
    let touched = black_box(vec![1_u8; TOUCHED_BYTES]);
    let watcher = Watcher::new().expect("a watcher can be built");
    let mut group = criterion.benchmark_group("1 GB touched");
    group.sample_size(20).sampling_mode(SamplingMode::Flat);
    group.bench_function("fork_watchable", |bencher| {
        bencher.iter_custom(|iterations| {
            // SAFETY: the child does nothing.
            let make = || unsafe { watcher.fork_watchable(|| ()) };
            time(iterations, || make().expect("it can be forked"))
        });
    });
    group.bench_function("vfork_watchable", |bencher| {
        bencher.iter_custom(|iterations| {
            // SAFETY: the child does nothing.
            let make = || unsafe { watcher.vfork_watchable(|| ()) };
            time(iterations, || make().expect("it can be made"))
        });
    });
    group.finish();
    drop(touched);
}

criterion_group!(benches, fork);
criterion_main!(benches);
