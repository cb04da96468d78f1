//! Receives exits in a poll loop that also reads the output of the children.

use std::error::Error;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use exitring::Watcher;
use polling::{Event, Events, PollMode, Poller};

const CHILDREN: usize = 50;
/// The key of the exits. The key of a child's output is the number of the child.
const EXITS: usize = CHILDREN;

fn main() -> Result<(), Box<dyn Error>> {
    let watcher = Watcher::new()?;
    let exits = watcher.exits(CHILDREN)?;
    let poller = Poller::new()?;
    // SAFETY: a source is deleted from the poller before it is closed, or outlives the poller.
    unsafe { poller.add_with_mode(&exits, Event::readable(EXITS), PollMode::Level)? };

    let mut outputs = Vec::new();
    for number in 0..CHILDREN {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo line {number}; exit {number}")]);
        let child = watcher.spawn(command.stdout(Stdio::piped()))?;
        exits.add(&child, number as u64)?;
        let output = child.stdout.take().ok_or("stdout is piped")?;
        // SAFETY: as for the exits.
        unsafe { poller.add_with_mode(&output, Event::readable(number), PollMode::Level)? };
        outputs.push(Some(output));
    }

    let mut events = Events::new();
    let (mut bytes, mut ended) = (0, 0);
    while exits.outstanding() > 0 || outputs.iter().any(Option::is_some) {
        events.clear();
        poller.wait(&mut events, None)?;
        for event in events.iter() {
            if event.key == EXITS {
                for tagged in exits.try_iter() {
                    let tagged = tagged?;
                    let code = tagged.exit.status().and_then(|status| status.code());
                    assert_eq!(code, Some(tagged.tag as i32));
                    ended += 1;
                }
            } else if let Some(output) = &mut outputs[event.key] {
                let mut buffer = [0; 4096];
                let count = output.read(&mut buffer)?;
                bytes += count;
                if count == 0 {
                    poller.delete(output.as_fd())?;
                    outputs[event.key] = None;
                }
            }
        }
    }
    println!("{ended} children ended and printed {bytes} bytes");
    Ok(())
}
