//! Exits inside a poll loop that has other things to do: here, to read what the children print.

use std::error::Error;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use exitring::Watcher;
use polling::{Event, Events, PollMode, Poller};

const CHILDREN: usize = 50;
/// The key of the exits; the children's output have their numbers.
const EXITS: usize = CHILDREN;

fn main() -> Result<(), Box<dyn Error>> {
    let watcher = Watcher::new()?;
    let exits = watcher.exits(CHILDREN)?;
    let poller = Poller::new()?;
    // SAFETY: everything added is deleted from the poller before it is closed, or lives as long.
    unsafe { poller.add_with_mode(&exits, Event::readable(EXITS), PollMode::Level)? };

    let mut outputs = Vec::new();
    for number in 0..CHILDREN {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo line {number}; exit {number}")]);
        let child = watcher.spawn(command.stdout(Stdio::piped()))?;
        exits.add(&child, number as u64)?;
        let output = child.stdout.take().ok_or("it was piped")?;
        // SAFETY: as above.
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
