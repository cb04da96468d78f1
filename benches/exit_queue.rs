//! Measures the bounded queue between one thread and the workers. Exits are pushed in batches of
//! 64, as in a storm, into a queue of the default capacity.

#![allow(missing_docs, reason = "criterion_group! makes public functions")]

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[allow(dead_code, reason = "the library uses the rest")]
#[path = "../src/dispatch/exit_queue.rs"]
mod exit_queue;
/// What the queue expects as `crate::sync`.
mod sync {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
}

use exit_queue::ExitQueue;

const BATCH: u64 = 64;

fn transfer(workers: usize, exits: u64) -> Duration {
    let queue = ExitQueue::new(1024).expect("there is enough memory");
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(popped) = queue.pop() {
                    black_box(popped.value);
                }
            });
        }
        let start = Instant::now();
        let mut backlog = VecDeque::with_capacity(BATCH as usize);
        for first in (0..exits).step_by(BATCH as usize) {
            backlog.extend(first..exits.min(first + BATCH));
            while !backlog.is_empty() {
                if queue.push_from(&mut backlog, |_| ()) == 0 {
                    std::thread::yield_now();
                }
            }
        }
        while queue.len() > 0 {
            std::thread::yield_now();
        }
        let spent = start.elapsed();
        queue.close();
        spent
    })
}

fn exit_queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exit_queue");
    group.throughput(Throughput::Elements(1));
    for workers in [1, 2] {
        group.bench_function(format!("workers({workers})"), |bencher| {
            bencher.iter_custom(|iterations| transfer(workers, iterations));
        });
    }
    group.finish();
}

criterion_group!(benches, exit_queue);
criterion_main!(benches);
