//! What an event that the conductor waits for is about.

use rustix::event::epoll::EventData;

/// Standard output's place among a job's streams.
pub(crate) const OUT: usize = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// Jobs ended.
    Exits,
    /// There is news.
    Bell,
    /// We are asked to end.
    Signal,
    /// A job has written, or closed what it writes to.
    Output(Whose),
}

/// Which stream of which attempt at which job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Whose {
    /// The job's number.
    pub(crate) job: u64,
    attempt: u64,
    /// Standard output, or error.
    pub(crate) stream: usize,
}

impl Whose {
    pub(crate) fn new(job: u64, attempt: u32, stream: usize) -> Self {
        let attempt = u64::from(attempt) & ATTEMPT_MASK;
        Self {
            job,
            attempt,
            stream,
        }
    }

    /// Both streams.
    pub(crate) fn both(job: u64, attempt: u32) -> [Self; 2] {
        [0, 1].map(|stream| Self::new(job, attempt, stream))
    }
}

/// Tokens below this are no job's.
const OUTPUTS: u64 = 4;
/// The lower bits are the job's number and the stream's.
const ATTEMPT_SHIFT: u32 = 52;
/// Attempts are counted up to here, and from 0 again: enough to tell a pipe from those of the attempts before.
const ATTEMPT_MASK: u64 = (1 << (64 - ATTEMPT_SHIFT - 1)) - 1;

impl Token {
    pub(crate) fn data(self) -> EventData {
        EventData::new_u64(match self {
            Self::Exits => 0,
            Self::Bell => 1,
            Self::Signal => 2,
            Self::Output(Whose {
                job,
                attempt,
                stream,
            }) => OUTPUTS + (attempt << ATTEMPT_SHIFT) + job * 2 + stream as u64,
        })
    }

    pub(crate) fn of(data: EventData) -> Self {
        match data.u64() {
            0 => Self::Exits,
            1 => Self::Bell,
            2 | 3 => Self::Signal,
            output => {
                let output = output - OUTPUTS;
                Self::Output(Whose {
                    job: (output & ((1 << ATTEMPT_SHIFT) - 1)) / 2,
                    attempt: output >> ATTEMPT_SHIFT,
                    stream: (output % 2) as usize,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_was() {
        let outputs = [
            (1, 1, 0),
            (1, 2, 1),
            (2, 1, 0),
            (1 << 50, 2047, 1),
            (1, 2048, 0),
        ]
        .map(|(job, attempt, stream)| Token::Output(Whose::new(job, attempt, stream)));
        for token in [Token::Exits, Token::Bell, Token::Signal]
            .into_iter()
            .chain(outputs)
        {
            assert_eq!(Token::of(token.data()), token);
        }
    }
}
