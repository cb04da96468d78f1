//! The limit that a run shares with other programs by a jobserver.
//!
//! A run without a jobserver has no tokens, and its limit is that of admission alone.

use std::sync::Arc;

use super::{Admission, State};
use crate::run::jobserver::tokens::Tokens;

impl Admission {
    /// Runs jobs by these tokens.
    pub(crate) fn use_tokens(&self, tokens: Tokens) {
        self.lock().tokens = Some(tokens);
    }

    /// Takes tokens from the jobserver for the jobs that could start.
    pub(crate) fn take_tokens(&self) {
        let mut state = self.lock();
        state.take_tokens();
        self.wake_spawners(&state);
    }

    /// Starts no more jobs, and puts back all tokens, also those of jobs that are left running.
    pub(crate) fn return_tokens(&self) {
        self.close();
        self.lock().tokens = None;
    }
}

impl State {
    /// Whether a job may start; if a job waits for a token, one is requested.
    pub(super) fn has_token(&mut self) -> bool {
        let has_one = match &self.tokens {
            None => return true,
            Some(tokens) => tokens.startable(self.active) > 0,
        };
        let waits = self.startable() > 0;
        if let (Some(tokens), false, true) = (&mut self.tokens, has_one, waits) {
            tokens.request();
        }
        has_one
    }

    /// The number of spawners that have something to do: they start a job, or one of them requests
    /// a token (after the delay).
    pub(super) fn worth_waking(&self) -> usize {
        let startable = self.startable();
        let Some(tokens) = &self.tokens else {
            return startable;
        };
        match tokens.startable(self.active) {
            0 if !tokens.is_requested() => startable.min(1),
            with_tokens => startable.min(with_tokens),
        }
    }

    fn take_tokens(&mut self) {
        // With a delay the next token is requested when it is over.
        let startable = match self.next_can_start() {
            true => self.startable().min(self.delay.map_or(usize::MAX, |_| 1)),
            false => 0,
        };
        if let Some(tokens) = &mut self.tokens {
            tokens.take(self.active + startable);
        }
    }

    pub(super) fn add_token(&mut self) {
        if let Some(tokens) = &mut self.tokens {
            tokens.add();
        }
    }

    /// The limit on active jobs is about to shrink, unless it is 1.
    pub(super) fn remove_token(&mut self) {
        if self.capacity_max > 1
            && let Some(tokens) = &mut self.tokens
        {
            tokens.remove();
        }
    }

    /// Puts back the tokens that are in no use, because no job can start now. A job that runs for
    /// long would keep other programs from using them.
    pub(super) fn return_unused(&mut self) {
        if let Some(tokens) = &mut self.tokens {
            tokens.keep(self.active);
        }
    }

    /// Puts back tokens for which no job is left. The end of the last job is the time to replace
    /// tokens that jobs have lost.
    pub(super) fn return_excess(&mut self) {
        let wanted = self.active + self.startable();
        if let Some(tokens) = &mut self.tokens {
            tokens.keep(wanted);
            if self.active == 0 {
                tokens.restore();
            }
        }
    }
}

/// Puts back all tokens when it is dropped, however the run ends. The threads that start jobs may
/// still share the admission then.
pub(crate) struct ReturnTokens(pub(crate) Arc<Admission>);

impl Drop for ReturnTokens {
    fn drop(&mut self) {
        self.0.return_tokens();
    }
}
