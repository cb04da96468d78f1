//! Starts one child and waits for its exit: `cargo run --example one_child -- COMMAND [ARGUMENT ...]`.

use std::error::Error;
use std::process::Command;

use exitring::Watcher;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().unwrap_or_else(|| "true".into());

    let watcher = Watcher::new()?;
    let child = watcher.spawn(Command::new(program).args(arguments))?;
    let exit = child.wait()?;
    println!("{}: {}", exit.pid(), exit.outcome());
    if let Some(usage) = exit.usage() {
        println!(
            "user {:?}, system {:?}, at most {} KiB resident",
            usage.user(),
            usage.system(),
            usage.max_rss_bytes() / 1024
        );
    }
    Ok(())
}
