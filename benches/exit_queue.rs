//! Handing exits from one thread to workers through the bounded queue: a batch of 64 at a time,
//! as a storm brings them, into a queue of the default capacity.

#![allow(missing_docs, reason = "criterion_group! makes public functions")]

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[allow(dead_code, reason = "the library uses what is not used here")]
#[path = "../src/exit_queue.rs"]
mod exit_queue;
#[allow(unused_imports, reason = "the library uses what is not used here")]
#[path = "../src/sync.rs"]
mod sync;

use exit_queue::ExitQueue;

const BATCH: u64 = 64;

fn hand_over(workers: usize, exits: u64) -> Duration {
    let queue = ExitQueue::new(1024).expect("that much memory there is");
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(popped) = queue.pop() {
                    black_box(popped.value);
                }
            });
        }
        let start = Instant::now();
        let mut line = VecDeque::with_capacity(BATCH as usize);
        for first in (0..exits).step_by(BATCH as usize) {
            line.extend(first..exits.min(first + BATCH));
            while !line.is_empty() {
                if queue.push_from(&mut line) == 0 {
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
            bencher.iter_custom(|iterations| hand_over(workers, iterations));
        });
    }
    group.finish();
}

criterion_group!(benches, exit_queue);
criterion_main!(benches);
