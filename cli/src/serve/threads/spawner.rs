//! The thread that forks.
//!
//! A program that asked for a signal at its parent's death (`PR_SET_PDEATHSIG`) gets it when the
//! thread that forked it ends, not only when the process does. An exec ends all threads but the one
//! that calls it. So one thread forks, the main one: it lives as long as the service, and it is the
//! thread that executes the service again.

use std::io;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver, Sender};

use tokio::sync::oneshot;

enum Message {
    Spawn(Box<Command>, oneshot::Sender<io::Result<Child>>),
    Stop,
}

/// Sends commands to the thread that forks.
#[derive(Clone)]
pub(crate) struct Spawner(Sender<Message>);

/// The commands that wait for the thread.
pub(crate) struct SpawnQueue(Receiver<Message>);

/// Stops the thread's loop when it is dropped.
pub(crate) struct StopOnDrop(Spawner);

pub(crate) fn channel() -> (Spawner, SpawnQueue) {
    let (messages, queue) = mpsc::channel();
    (Spawner(messages), SpawnQueue(queue))
}

impl Spawner {
    /// Starts a process. `None` if the service is stopping.
    pub(crate) async fn spawn(&self, command: Command) -> Option<io::Result<Child>> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Message::Spawn(command.into(), reply)).ok()?;
        answer.await.ok()
    }

    pub(crate) fn stop_on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.clone())
    }
}

impl SpawnQueue {
    /// Starts processes until the service stops. Each takes as long as a fork: the child does what
    /// depends on the user only after `Command::spawn` has returned here.
    pub(crate) fn run(self) {
        while let Ok(Message::Spawn(mut command, reply)) = self.0.recv() {
            let child = command.spawn();
            // Closes this process's copy of the child's end of the start gate.
            drop(command);
            // The request handler waits for this reply, even while the service stops.
            let _ = reply.send(child);
        }
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        // An error means that the loop has ended already.
        let _ = self.0.0.send(Message::Stop);
    }
}
