use std::sync::mpsc;
use std::time::Duration;

use crate::error::{Closed, ForkError, SpawnError, WaitError, WatchError};
use crate::ring_thread::command::Command;
use crate::{Cancel, Watcher};

/// Only a bug ends the ring thread, so a test needs an internal command for it.
#[test]
#[allow(unsafe_code, reason = "fork_watchable is unsafe, and refused here")]
fn when_the_ring_thread_dies_every_call_and_every_waiter_gets_an_error() {
    for workers in [0, 2] {
        let watcher = Watcher::builder()
            .workers(workers)
            .build()
            .expect("a watcher can be built");
        let child = watcher
            .spawn(std::process::Command::new("sleep").arg("1000"))
            .expect("sleep starts");
        let (sender, receiver) = mpsc::channel::<()>();
        let callback = child.on_exit(move |_| drop(sender)).expect("it is added");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| child.wait());
            // The result is the same whether the waiter waits by now or not.
            std::thread::sleep(Duration::from_millis(10));
            assert!(watcher.shared().mailbox.send(Command::Panic).is_ok());
            let died = Closed::RingThreadDied;
            assert_eq!(
                waiter.join().expect("no panic"),
                Err(WaitError::Closed(died))
            );
            // The callback was dropped, so the channel is disconnected.
            assert_eq!(receiver.recv(), Err(mpsc::RecvError));
            assert_eq!(child.cancel(callback), Cancel::NotPending);
            assert_eq!(child.on_exit(|_| ()), Err(died));
            let refused = watcher.watch(child.pid());
            match watcher.stats().backend {
                // Some environments, such as Valgrind, have no pidfds. They refuse this, dead
                // or alive.
                "threads" => assert!(matches!(refused, Err(WatchError::PidfdDenied { .. }))),
                _ => assert!(matches!(
                    refused,
                    Err(WatchError::Closed(Closed::RingThreadDied))
                )),
            }
            // SAFETY: refused before it forks, or else the child does nothing.
            let forked = unsafe { watcher.fork_watchable(|| ()) };
            assert!(matches!(
                forked,
                Err(ForkError::Refused(WatchError::Closed(
                    Closed::RingThreadDied
                )))
            ));
            assert!(matches!(
                watcher.spawn(&mut std::process::Command::new("true")),
                Err(SpawnError::Refused(WatchError::Closed(
                    Closed::RingThreadDied
                )))
            ));
            let death = watcher.stats().death.expect("the death is reported");
            assert!(death.contains("panicked"), "{death}");
        });
        drop(watcher);
        // The child is still ours, and is reaped without the watcher.
        child.kill().expect("it lives");
    }
}
