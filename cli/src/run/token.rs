//! The source of an event that the supervisor's epoll reports.

use rustix::event::epoll::EventData;

use super::stream_id::StreamId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// Jobs ended.
    Exits,
    /// The event queue has events.
    Events,
    /// A signal arrived.
    Signal,
    /// The jobserver has a token.
    Jobserver,
    /// A pipe of a job is readable, or its writers closed it.
    Output(StreamId),
    /// The kernel reports pressure, by the trigger with this index.
    Pressure(usize),
}

/// Smaller tokens belong to no job.
const OUTPUTS: u64 = 4;
/// The highest bit, which no identifier of a stream has.
const PRESSURES: u64 = 1 << 63;

impl Token {
    pub(crate) fn data(self) -> EventData {
        EventData::new_u64(match self {
            Self::Exits => 0,
            Self::Events => 1,
            Self::Signal => 2,
            Self::Jobserver => 3,
            Self::Output(stream_id) => OUTPUTS + stream_id.to_bits(),
            Self::Pressure(index) => PRESSURES + index as u64,
        })
    }

    pub(crate) fn from_data(data: EventData) -> Self {
        match data.u64() {
            0 => Self::Exits,
            1 => Self::Events,
            2 => Self::Signal,
            3 => Self::Jobserver,
            pressure if pressure >= PRESSURES => Self::Pressure((pressure - PRESSURES) as usize),
            output => Self::Output(StreamId::from_bits(output - OUTPUTS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_a_round_trip() {
        let outputs = [
            (1, 1, 0),
            (1, 2, 1),
            (2, 1, 0),
            (1 << 50, 2047, 1),
            (1, 2048, 0),
        ]
        .map(|(job, attempt, stream)| Token::Output(StreamId::new(job, attempt, stream)));
        let others = [
            Token::Exits,
            Token::Events,
            Token::Signal,
            Token::Jobserver,
            Token::Pressure(0),
            Token::Pressure(2),
        ];
        for token in others.into_iter().chain(outputs) {
            assert_eq!(Token::from_data(token.data()), token);
        }
    }
}
