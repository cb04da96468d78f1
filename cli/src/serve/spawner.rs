//! The thread that forks.
//!
//! A program that asked for a signal at its parent's death (`PR_SET_PDEATHSIG`) gets it when the thread ends that forked it, and
//! not only when the process does. An exec ends all threads but the one that calls it. So one thread forks, the main one: it
//! lives as long as the service, and is the one that executes the service anew.

use std::io;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver, Sender};

use tokio::sync::oneshot;

enum Message {
    Start(Box<Command>, oneshot::Sender<io::Result<Child>>),
    End,
}

/// The way to the thread.
#[derive(Clone)]
pub(crate) struct Spawner(Sender<Message>);

/// What waits for the thread.
pub(super) struct Starts(Receiver<Message>);

/// Ends the work of the thread when it is dropped.
pub(super) struct EndOfStarts(Spawner);

pub(super) fn spawner() -> (Spawner, Starts) {
    let (messages, inbox) = mpsc::channel();
    (Spawner(messages), Starts(inbox))
}

impl Spawner {
    /// Starts a process. `None`: the service is ending.
    pub(crate) async fn start(&self, command: Command) -> Option<io::Result<Child>> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Message::Start(command.into(), reply)).ok()?;
        answer.await.ok()
    }

    pub(super) fn end_when_dropped(&self) -> EndOfStarts {
        EndOfStarts(self.clone())
    }
}

impl Starts {
    /// Starts processes until the end. Each takes as long as a fork: nothing of the user's is in it.
    pub(super) fn work(self) {
        while let Ok(Message::Start(mut command, reply)) = self.0.recv() {
            let started = command.spawn();
            // Closes our copy of its end of the gate.
            drop(command);
            // Who asked waits for it, to the end of the process if it comes to that.
            let _ = reply.send(started);
        }
    }
}

impl Drop for EndOfStarts {
    fn drop(&mut self) {
        // Ended already, if it fails.
        let _ = self.0.0.send(Message::End);
    }
}
