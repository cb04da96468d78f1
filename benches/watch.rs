//! Measures the cost of `Watcher::watch` for its caller: two system calls, and a wake-up if the
//! ring thread sleeps. All watches are of one sleeping process. Dropping the watches is not
//! measured.

#![allow(missing_docs, reason = "criterion_group! makes public functions")]

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use exitring::Watcher;

struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("100000").spawn().expect("sleep starts"))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn watch(criterion: &mut Criterion) {
    let sleeper = Sleeper::start();
    let watcher = Watcher::new().expect("the watcher is built");
    criterion.bench_function("watch", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut left = iterations;
            let mut spent = Duration::ZERO;
            while left > 0 {
                let batch = left.min(10_000);
                let mut watches = Vec::with_capacity(batch as usize);
                let start = Instant::now();
                for _ in 0..batch {
                    watches.push(watcher.watch(sleeper.0.id()).expect("it is alive"));
                }
                spent += start.elapsed();
                left -= batch;
                // The ring thread removes dropped watches asynchronously.
                drop(watches);
                while watcher.stats().watched > 0 {
                    std::thread::yield_now();
                }
            }
            spent
        });
    });
}

criterion_group!(benches, watch);
criterion_main!(benches);
