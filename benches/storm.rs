//! Measures a storm of 1,000 exits, from the release of the children to the last callback. Forks
//! and registrations are not measured. The callback reaps.
//!
//! This benchmark finds regressions; `loadgen storm` measures in detail.

#![allow(missing_docs, reason = "criterion_group! makes public functions")]

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use exitring::{Pid, Watcher};

const CHILDREN: usize = 1000;

/// Forks children that exit when the returned writer, the last one of their pipe, is dropped.
fn fork_children() -> (Vec<Pid>, OwnedFd) {
    let (reader, writer) = rustix::pipe::pipe().expect("there is a pipe");
    let pids = (0..CHILDREN).map(|_| {
        // SAFETY: the child makes only system calls: it closes, reads, and exits.
        unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::close(writer.as_raw_fd());
                let _ = rustix::io::read(&reader, &mut [0]);
                libc::_exit(0);
            }
            Pid::new(pid).expect("fork works")
        }
    });
    (pids.collect(), writer)
}

fn one_storm(workers: usize) -> Duration {
    let watcher = Watcher::builder().workers(workers).build();
    let watcher = watcher.expect("the watcher is built");
    let (pids, gate) = fork_children();
    let (sender, receiver) = mpsc::channel();
    for pid in pids {
        let sender = sender.clone();
        let watch = watcher.watch(pid).expect("it is a child");
        watch
            .on_exit(move |exit| {
                // SAFETY: the status pointer is null.
                let reaped = unsafe {
                    libc::waitpid(exit.pid().as_raw(), std::ptr::null_mut(), libc::WNOHANG)
                };
                sender.send(reaped).expect("the receiver is alive");
            })
            .expect("the watcher is alive");
    }
    while watcher.stats().armed < CHILDREN as u64 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let start = Instant::now();
    drop(gate);
    for _ in 0..CHILDREN {
        assert!(receiver.recv().expect("one message per child") > 0);
    }
    start.elapsed()
}

fn storm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("storm");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for workers in [0, 1] {
        group.bench_function(
            format!("{CHILDREN} children, workers({workers})"),
            |bencher| {
                bencher.iter_custom(|storms| (0..storms).map(|_| one_storm(workers)).sum());
            },
        );
    }
    group.finish();
}

criterion_group!(benches, storm);
criterion_main!(benches);
