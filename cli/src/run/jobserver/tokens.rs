//! The tokens of running jobs.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::epoll;

use super::connection::Connection;
use crate::run::token::Token;

/// The tokens that this run holds. Admission owns them, and calls all methods under its lock: each
/// token that was read is in `held` before anyone can look, so none is lost between two threads.
///
/// With `active` jobs `active - 1` tokens are in use. The first job needs none, so the run always
/// goes on, also if the jobserver has vanished. There are more tokens only for jobs that start at
/// once.
#[derive(Debug)]
pub(crate) struct Tokens {
    connection: Connection,
    /// The bytes of the tokens: a byte may have a meaning, so the same one is put back.
    held: Vec<u8>,
    /// The epoll of the supervisor.
    poll: Arc<OwnedFd>,
    /// The epoll reports the next token.
    armed: bool,
    /// The pipe cannot be read any more.
    broken: bool,
    own: Option<Own>,
}

/// The account of a jobserver that this run provides.
#[derive(Debug)]
struct Own {
    /// The tokens that exist when all are put back.
    total: usize,
    /// Tokens that were not there to be removed, and vanish when they are put back.
    debt: usize,
}

impl Tokens {
    /// `own`: the tokens that this run has put into the pipe, if it provides the jobserver.
    pub(super) fn new(
        connection: Connection,
        own: Option<usize>,
        poll: Arc<OwnedFd>,
    ) -> io::Result<Self> {
        let disarmed = epoll::EventFlags::ONESHOT;
        epoll::add(&poll, &connection, Token::Jobserver.data(), disarmed)?;
        Ok(Self {
            connection,
            held: Vec::new(),
            poll,
            armed: false,
            broken: false,
            own: own.map(|total| Own { total, debt: 0 }),
        })
    }

    /// How many more jobs may start.
    pub(crate) fn startable(&self, active: usize) -> usize {
        (self.held.len() + 1).saturating_sub(active)
    }

    /// Has the supervisor call `take` when there is a token.
    pub(crate) fn request(&mut self) {
        if self.armed || self.broken {
            return;
        }
        // One event at a time: a token that another program takes first is no reason to wake up
        // again.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        let armed = epoll::modify(&self.poll, &self.connection, Token::Jobserver.data(), flags);
        self.armed = armed.is_ok();
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.armed || self.broken
    }

    /// Takes tokens until `jobs` jobs can run, or there are no more, and requests the next then.
    pub(crate) fn take(&mut self, jobs: usize) {
        self.armed = false;
        while self.held.len() + 1 < jobs {
            match self.connection.take() {
                Ok(Some(byte)) => self.held.push(byte),
                Ok(None) => return self.request(),
                Err(_) => {
                    // The implicit token is left.
                    self.broken = true;
                    return;
                }
            }
        }
    }

    /// Puts back the token of a job that has ended. `active` jobs are left. The token is not kept
    /// for the next job, so that other programs get their share.
    pub(crate) fn job_ended(&mut self, active: usize) {
        if active > 0 {
            self.give_back();
        }
    }

    /// Puts back what `jobs` jobs do not need.
    pub(crate) fn keep(&mut self, jobs: usize) {
        while self.held.len() > jobs.saturating_sub(1) {
            self.give_back();
        }
    }

    /// Puts new tokens into the own pipe for those that killed jobs did not put back. The caller
    /// has no active job that could hold one.
    ///
    /// A process that a job left in the background may put one back later. The next call removes
    /// what is too much.
    pub(crate) fn restore(&mut self) {
        let Some(own) = &mut self.own else { return };
        let expected = own.total.saturating_sub(self.held.len());
        let Ok(available) = self.connection.available() else {
            return;
        };
        own.debt = 0;
        for _ in available..expected {
            let _ = self.connection.give(b'+');
        }
        for _ in expected..available {
            let _ = self.connection.take();
        }
    }

    /// One more job may run, in this run or in its jobs.
    pub(crate) fn add(&mut self) {
        let Some(own) = &mut self.own else { return };
        own.total += 1;
        match own.debt {
            0 => drop(self.connection.give(b'+')),
            _ => own.debt -= 1,
        }
    }

    /// One job fewer may run, in this run or in its jobs.
    pub(crate) fn remove(&mut self) {
        let Some(own) = &mut self.own else { return };
        own.total = own.total.saturating_sub(1);
        if !matches!(self.connection.take(), Ok(Some(_))) {
            own.debt += 1;
        }
    }

    fn give_back(&mut self) {
        let Some(byte) = self.held.pop() else { return };
        match &mut self.own {
            Some(own) if own.debt > 0 => own.debt -= 1,
            // This fails only if someone else has filled the pipe, and then there are tokens.
            _ => drop(self.connection.give(byte)),
        }
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.keep(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tokens of a run with `-j 4`, and their FIFO.
    fn own() -> (tempfile::TempDir, Tokens) {
        let dir = tempfile::tempdir().expect("a directory");
        let (connection, _) = Connection::create_fifo(&dir.path().join("fifo")).expect("a FIFO");
        connection.fill(3, 0).expect("room");
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
        let tokens = Tokens::new(connection, Some(3), Arc::new(poll));
        (dir, tokens.expect("watched"))
    }

    fn available(tokens: &Tokens) -> usize {
        tokens.connection.available().expect("a number")
    }

    #[test]
    fn the_first_job_needs_no_token() {
        let (_dir, mut tokens) = own();
        assert_eq!([0, 1].map(|active| tokens.startable(active)), [1, 0]);
        tokens.take(3);
        assert_eq!((available(&tokens), tokens.startable(1)), (1, 2));
        // The third job ends, then the second and the first.
        for (active, left) in [(2, 2), (1, 3), (0, 3)] {
            tokens.job_ended(active);
            assert_eq!(available(&tokens), left);
        }
    }

    #[test]
    fn a_token_that_is_not_there_is_requested_once() {
        let (_dir, mut tokens) = own();
        tokens.take(9);
        assert_eq!((tokens.held.len(), tokens.is_requested()), (3, true));
        let mut events = Vec::with_capacity(1);
        let mut wait = |tokens: &Tokens| {
            events.clear();
            let now = rustix::event::Timespec::default();
            let space = rustix::buffer::spare_capacity(&mut events);
            epoll::wait(&tokens.poll, space, Some(&now)).expect("no error")
        };
        assert_eq!(wait(&tokens), 0);
        tokens.connection.give(b'+').expect("room");
        assert_eq!([wait(&tokens), wait(&tokens)], [1, 0]);
    }

    #[test]
    fn lost_tokens_are_replaced_and_additional_ones_are_removed() {
        let (_dir, mut tokens) = own();
        for other in [-2, 2] {
            for _ in other..0 {
                tokens
                    .connection
                    .take()
                    .expect("no error")
                    .expect("a token");
            }
            for _ in 0..other {
                tokens.connection.give(b'+').expect("room");
            }
            assert_eq!(available(&tokens) as i32, 3 + other);
            tokens.restore();
            assert_eq!(available(&tokens), 3);
        }
    }

    #[test]
    fn a_token_that_is_in_use_is_removed_later() {
        let (_dir, mut tokens) = own();
        tokens.take(4);
        tokens.remove();
        tokens.remove();
        tokens.add();
        tokens.keep(1);
        assert_eq!(available(&tokens), 2);
        tokens.restore();
        assert_eq!(available(&tokens), 2);
    }
}
