//! Spans and events of the feature `tracing`. One test, because a subscriber for all threads can
//! be set only once.

mod common;

use std::io::{self, Write};
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};

use common::until;
use exitring::{Backend, Watcher};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Collects what the subscriber writes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no writer panics")).into_owned()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[test]
fn building_spawning_and_a_full_queue_are_traced_and_single_exits_are_not() {
    let lines = Lines::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(lines.clone())
        .init();

    let builder = Watcher::builder().workers(1).queue_capacity(1);
    let watcher = builder.backend(Backend::Auto).build().expect("it is built");
    let built = lines.text();
    assert!(
        built.contains("build{workers=1 queue_capacity=1"),
        "{built}"
    );
    assert!(built.contains(watcher.stats().backend), "{built}");

    let error = watcher.spawn(&mut Command::new("/no/such/program"));
    let error = error.expect_err("there is no such program").to_string();
    assert!(lines.text().contains(&error), "{}", lines.text());

    // The worker waits in the first callback, the queue holds one exit more.
    let (open, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    for _ in 0..5 {
        let child = watcher.spawn(&mut Command::new("true")).expect("it starts");
        assert!(lines.text().contains(&format!("pid={}", child.id())));
        let gate = Arc::clone(&gate);
        let wait = move |_: &exitring::Exit| {
            let _ = gate.lock().expect("no callback panics").recv();
        };
        child.on_exit(wait).expect("the watcher is open");
    }
    until("the queue is full", || {
        lines.text().contains("the queue of exits is full")
    });
    assert!(watcher.stats().stalls > 0);
    drop(open);
    until("all callbacks have run", || watcher.stats().callbacks == 5);

    let text = lines.text();
    let stalls = text.matches("the queue of exits is full").count();
    // Two lines at the most for a build or a spawn, and one for each time the queue became full.
    assert!(text.lines().count() <= 1 + 1 + 5 + stalls, "{text}");
    assert!(stalls <= 5, "{text}");
}
