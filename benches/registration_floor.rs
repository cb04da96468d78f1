//! The floor of a registration that wakes up another thread.
//!
//! One thread owns the ring, so a registration of a sleeping ring thread takes a `pidfd_open`
//! (unless the process is a child of the caller) and a write to an eventfd. This program measures
//! these calls alone, beside `Watcher::watch` and `Watcher::adopt`: each once every 2 ms, like
//! the scenario `register` of loadgen, in turns. It prints medians of percentiles over the rounds.

use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use exitring::Watcher;
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

const ROUNDS: usize = 7;
/// Ten of these lie beyond the 99th percentile.
const CALLS: usize = 1000;
const PAUSE: Duration = Duration::from_millis(2);

/// Durations of one call in nanoseconds, sorted. What it returns is dropped afterwards.
fn measure<T>(mut call: impl FnMut() -> T) -> Vec<u128> {
    let mut durations: Vec<_> = (0..CALLS)
        .map(|_| {
            std::thread::sleep(PAUSE);
            let start = Instant::now();
            let result = call();
            let duration = start.elapsed().as_nanos();
            drop(result);
            duration
        })
        .collect();
    durations.sort_unstable();
    durations
}

fn sleeper() -> Child {
    let mut command = Command::new("sleep");
    let command = command
        .arg("1000")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command.stderr(Stdio::null()).spawn().expect("sleep starts")
}

fn main() {
    let mut target = sleeper();
    let pid = Pid::from_child(&target);
    let wake = eventfd(0, EventfdFlags::CLOEXEC).expect("a descriptor is free");
    let reader = wake.try_clone().expect("a descriptor is free");
    // It ends with the process.
    std::thread::spawn(move || while rustix::io::read(&reader, &mut [0; 8]).is_ok() {});
    let open = || pidfd_open(pid, PidfdFlags::empty()).expect("the process lives");
    let notify = || rustix::io::write(wake.as_fd(), &1_u64.to_ne_bytes()).map(drop);
    let watcher = Watcher::builder().workers(1).build().expect("it is built");

    let names = [
        "pidfd_open",
        "wake-up",
        "pidfd_open, wake-up",
        "watch",
        "adopt",
    ];
    let mut results = names.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..ROUNDS {
        let mut watches = Vec::with_capacity(CALLS);
        let mut children: Vec<_> = (0..CALLS).map(|_| sleeper()).collect();
        let mut owned = Vec::with_capacity(CALLS);
        let series = [
            measure(open),
            measure(|| notify().expect("the counter has room")),
            measure(|| {
                let pidfd = open();
                notify().expect("the counter has room");
                pidfd
            }),
            measure(|| watches.push(watcher.watch(target.id()).expect("the process lives"))),
            measure(|| {
                let child = children.pop().expect("one for each call");
                owned.push(watcher.adopt(child).expect("it is our child"));
            }),
        ];
        for child in owned {
            child.kill().expect("it lives");
            child.wait().expect("the watcher lives");
        }
        for ((p50, p99), durations) in results.iter_mut().zip(series) {
            p50.push(durations[CALLS / 2]);
            p99.push(durations[CALLS * 99 / 100 - 1]);
        }
    }
    let median = |values: &mut Vec<u128>| {
        values.sort_unstable();
        values[values.len() / 2] as f64 / 1000.0
    };
    println!(
        "{:<22}{:>10}{:>10}",
        "call, every 2 ms", "p50, µs", "p99, µs"
    );
    for (name, (mut p50, mut p99)) in names.into_iter().zip(results) {
        println!(
            "{name:<22}{:>10.1}{:>10.1}",
            median(&mut p50),
            median(&mut p99)
        );
    }
    target.kill().expect("it lives");
    target.wait().expect("it is our child");
}
