//! Runs shell commands, one a line, so many at a time, and says how each ended: `cargo run
//! --example batch_executor -- [FILE] [AT_ONCE]`. Without a file, standard input is read.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use exitring::{Exits, Outcome, SpawnError, Tagged, Watcher};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let commands: Box<dyn BufRead> = match arguments.next() {
        Some(file) => Box::new(BufReader::new(File::open(file)?)),
        None => Box::new(stdin().lock()),
    };
    let at_once = arguments.next().map_or(Ok(8), |number| number.parse())?;

    let watcher = Watcher::new()?;
    // Room for as many as may run: a full queue is a full house.
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
        // Its own group, so that the deadline reaches what it starts.
        .process_group(0);
    loop {
        match watcher.spawn(&mut command) {
            Ok(child) => {
                child.deadline(Duration::from_secs(60), Duration::from_secs(5))?;
                return Ok(exits.add(&child, number)?);
            }
            // Something ran out that a job which ends will give back.
            Err(error) if error.is_throttling() && exits.outstanding() > 0 => {
                tally.take(exits.recv()?);
            }
            Err(SpawnError::NoProcesses(limit)) => {
                eprintln!("{limit}; trying again");
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
