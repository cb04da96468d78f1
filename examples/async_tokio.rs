//! Awaits children in tokio tasks. The futures work with any other executor, too.

use std::error::Error;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use exitring::Watcher;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let watcher = Arc::new(Watcher::new()?);
    let tasks: Vec<_> = (0..100)
        .map(|code| {
            let watcher = Arc::clone(&watcher);
            tokio::spawn(async move {
                // A spawn blocks until the exec.
                let child = tokio::task::spawn_blocking(move || {
                    watcher.spawn(Command::new("sh").args(["-c", &format!("exit {code}")]))
                })
                .await
                .expect("spawning does not panic")
                .expect("sh starts");
                child.exited().await
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task
            .await??
            .status()
            .and_then(|status| status.code())
            .unwrap_or(0);
    }
    println!("the sum of the exit codes is {sum}");
    assert_eq!(sum, (0..100).sum());

    // A future that is dropped costs nothing, and the child goes on.
    let mut slow = watcher.spawn(Command::new("sleep").arg("1000"))?;
    slow.kill_on_drop(true);
    let result = tokio::time::timeout(Duration::from_millis(10), slow.exited()).await;
    println!(
        "after 10 ms: {}",
        if result.is_err() {
            "still running"
        } else {
            "ended"
        }
    );
    Ok(())
}
