//! Runs shell commands, one per line, a number of them at a time, and reports how each ended:
//! `cargo run --example batch_executor -- [FILE] [AT_ONCE]`. The default is standard input.
//!
//! `executor.rs` is larger: with limits, containment, and output, on tokio.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::time::Duration;

use exitring::{Command, Exits, Outcome, SpawnError, Stdio, Tagged, Watcher};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let commands: Box<dyn BufRead> = match arguments.next() {
        Some(file) => Box::new(BufReader::new(File::open(file)?)),
        None => Box::new(stdin().lock()),
    };
    let at_once = arguments.next().map_or(Ok(8), |number| number.parse())?;

    let watcher = Watcher::new()?;
    // The capacity is the number of commands at a time: while the queue is full, no more may start.
    let exits = watcher.exits(at_once)?;
    let mut tally = Tally::default();
    for (number, line) in commands.lines().enumerate() {
        let line = line?;
        if exits.outstanding() == at_once {
            tally.take(exits.recv()?);
        }
        start(&watcher, &exits, &mut tally, &line, number as u64 + 1)?;
    }
    while exits.outstanding() > 0 {
        tally.take(exits.recv()?);
    }
    println!("{} succeeded, {} failed", tally.succeeded, tally.failed);
    Ok(())
}

fn start(
    watcher: &Watcher,
    exits: &Exits,
    tally: &mut Tally,
    line: &str,
    number: u64,
) -> Result<(), Box<dyn Error>> {
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .stdin(Stdio::null())
        // A group of its own, so that the deadline also ends processes that the command starts.
        .process_group(0);
    loop {
        match watcher.spawn(&mut command) {
            Ok(child) => {
                child.deadline(Duration::from_secs(60), Duration::from_secs(5))?;
                return Ok(exits.add(&child, number)?);
            }
            // A resource ran out that a job frees when it ends.
            Err(error) if error.is_throttling() && exits.outstanding() > 0 => {
                tally.take(exits.recv()?);
            }
            Err(SpawnError::NoProcesses(limit)) => {
                eprintln!("{limit}; retrying");
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[derive(Default)]
struct Tally {
    succeeded: u64,
    failed: u64,
}

impl Tally {
    fn take(&mut self, tagged: Option<Tagged>) {
        let Some(Tagged { tag, exit, .. }) = tagged else {
            return;
        };
        if exit.success() {
            self.succeeded += 1;
            return;
        }
        self.failed += 1;
        match exit.outcome() {
            Outcome::Signaled { signal, .. } if exit.by_deadline() => {
                println!("line {tag}: took too long (signal {signal})");
            }
            other => println!("line {tag}: {other}"),
        }
    }
}
