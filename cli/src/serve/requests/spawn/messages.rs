//! The messages of the start gate.

use exitring_protocol::Resource;

/// To the child: execute the program.
pub(super) const RELEASE: u8 = 1;
/// To the child: exit.
pub(super) const ABORT: u8 = 0;

/// From the child: it waits at the start gate. Any other first byte is that of the [`Step`] that
/// has failed. An error number follows.
pub(super) const READY: u8 = 255;
/// Bytes of a message from the child.
pub(super) const REPORT_BYTES: usize = 5;

/// The byte of the first resource. The others follow in the order of [`Resource::ALL`].
const FIRST_LIMIT: u8 = 16;

/// A step of a child that may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Opening the file of a standard stream, by its number.
    File(u8),
    /// Anything that has no step of its own, and the execution of the program.
    Program,
    /// Setting the nice value.
    Nice,
    /// Setting a resource limit.
    Limit(Resource),
}

impl Step {
    /// The first byte of its message. Async-signal-safe.
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::File(number) => number,
            Self::Program => 3,
            Self::Nice => 4,
            Self::Limit(resource) => {
                let index = Resource::ALL.iter().position(|other| *other == resource);
                FIRST_LIMIT + index.unwrap_or_default() as u8
            }
        }
    }

    /// The step of a message. A child sends no byte but those of [`byte`](Self::byte).
    pub(super) fn of(byte: u8) -> Self {
        match byte {
            0..=2 => Self::File(byte),
            4 => Self::Nice,
            FIRST_LIMIT.. => {
                let resource = Resource::ALL.get(usize::from(byte - FIRST_LIMIT));
                resource.map_or(Self::Program, |resource| Self::Limit(*resource))
            }
            _ => Self::Program,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_a_byte_of_its_own() {
        let steps = [Step::Program, Step::Nice];
        let files = (0..3).map(Step::File);
        let limits = Resource::ALL.map(Step::Limit);
        for step in steps.into_iter().chain(files).chain(limits) {
            assert_eq!(Step::of(step.byte()), step);
            assert_ne!(step.byte(), READY);
        }
    }
}
