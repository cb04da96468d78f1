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
    Output {
        /// Its number.
        job: u64,
        /// Standard output, or error.
        stream: usize,
    },
}

/// Tokens below this are no job's.
const OUTPUTS: u64 = 4;

impl Token {
    pub(crate) fn data(self) -> EventData {
        EventData::new_u64(match self {
            Self::Exits => 0,
            Self::Bell => 1,
            Self::Signal => 2,
            Self::Output { job, stream } => OUTPUTS + job * 2 + stream as u64,
        })
    }

    pub(crate) fn of(data: EventData) -> Self {
        match data.u64() {
            0 => Self::Exits,
            1 => Self::Bell,
            2 | 3 => Self::Signal,
            output => Self::Output {
                job: (output - OUTPUTS) / 2,
                stream: (output % 2) as usize,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_was() {
        let outputs = [(1, 0), (1, 1), (2, 0), (1 << 60, 1)]
            .map(|(job, stream)| Token::Output { job, stream });
        for token in [Token::Exits, Token::Bell, Token::Signal]
            .into_iter()
            .chain(outputs)
        {
            assert_eq!(Token::of(token.data()), token);
        }
    }
}
