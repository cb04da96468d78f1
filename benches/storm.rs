//! From the release of 1,000 children to the last callback. Forking and registering are not
//! measured; the callback reaps. `loadgen storm` is the instrument for more than a regression.

#![allow(missing_docs, reason = "criterion_group! makes public functions")]

use std::io::{PipeWriter, Read};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use exitring::{Pid, Watcher};

const CHILDREN: usize = 1000;

/// Children that end when the pipe's last writer, ours, is dropped.
fn fork_children() -> (Vec<Pid>, PipeWriter) {
    let (mut reader, writer) = std::io::pipe().expect("a pipe can be had");
    let pids = (0..CHILDREN).map(|_| {
        // SAFETY: the child makes system calls only: it closes, reads, and exits.
        unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::close(std::os::fd::AsRawFd::as_raw_fd(&writer));
                let _ = reader.read(&mut [0]);
                libc::_exit(0);
            }
            Pid::new(pid).expect("fork works")
        }
    });
    (pids.collect(), writer)
}

fn one_storm(workers: usize) -> Duration {
    let watcher = Watcher::builder().workers(workers).build();
    let watcher = watcher.expect("a watcher can be built");
    let (pids, gate) = fork_children();
    let (sender, receiver) = mpsc::channel();
    for pid in pids {
        let sender = sender.clone();
        let watch = watcher.watch(pid).expect("it is ours");
        watch
            .on_exit(move |exit| {
                // SAFETY: no status is asked for.
                let reaped = unsafe {
                    libc::waitpid(exit.pid().as_raw(), std::ptr::null_mut(), libc::WNOHANG)
                };
                sender.send(reaped).expect("somebody listens");
            })
            .expect("the watcher lives");
    }
    while watcher.stats().armed < CHILDREN as u64 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let start = Instant::now();
    drop(gate);
    for _ in 0..CHILDREN {
        assert!(receiver.recv().expect("one for each") > 0);
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
