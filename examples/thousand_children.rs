//! Starts a thousand children, and counts the failures in a callback.

use std::error::Error;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};

use exitring::Watcher;

const CHILDREN: u32 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let watcher = Watcher::new()?;
    let failed = Arc::new(AtomicU32::new(0));
    // The channel closes when the last callback has run.
    let (running, all_done) = mpsc::channel::<()>();

    for number in 0..CHILDREN {
        let code = u32::from(number % 10 == 0);
        let child = watcher.spawn(Command::new("sh").args(["-c", &format!("exit {code}")]))?;
        let (failed, running) = (Arc::clone(&failed), running.clone());
        child.on_exit(move |exit| {
            let _running = running;
            if !exit.success() {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        // The handle may be dropped: the callback still runs, and the child is still reaped.
    }
    drop(running);
    let _ = all_done.recv();

    let stats = watcher.stats();
    println!(
        "{} exits, {} of them failures; {} descriptors held",
        stats.delivered,
        failed.load(Ordering::Relaxed),
        stats.descriptors
    );
    assert_eq!(failed.load(Ordering::Relaxed), CHILDREN / 10);
    Ok(())
}
