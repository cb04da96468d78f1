//! Tokens: the 64 bits of `user_data` by which a completion is recognised.

/// The kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Reports that a process ended.
    Poll,
    /// Installs a descriptor for a slot of the file table.
    Install,
    /// Reports whether an ended process was reaped.
    Confirm,
    /// Reports a write to the eventfd.
    Wake,
    /// Reports that the process of a new watch ended.
    NewPidfds,
    /// A request whose completion carries no information (a close, a removal).
    Quiet,
}

/// The key of a slot, the generation of the watch in it, and the kind of request. The next watch in
/// a slot has another generation, so a late completion is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) key: u32,
    pub(super) generation: u32,
}

/// The bits of the key. The kind takes the four above it, the generation the upper half.
const KEY_BITS: u32 = 28;

/// How many slots tokens can distinguish.
pub(crate) const KEYS_MAX: usize = 1 << KEY_BITS;

impl Token {
    pub(super) const WAKE: Self = Self::without_slot(Kind::Wake);
    pub(super) const NEW_PIDFDS: Self = Self::without_slot(Kind::NewPidfds);
    pub(super) const QUIET: Self = Self::without_slot(Kind::Quiet);

    const fn without_slot(kind: Kind) -> Self {
        Self {
            kind,
            key: 0,
            generation: 0,
        }
    }

    pub(super) fn pack(self) -> u64 {
        debug_assert!((self.key as usize) < KEYS_MAX);
        let kind = match self.kind {
            Kind::Poll => 0,
            Kind::Install => 1,
            Kind::Wake => 2,
            Kind::Quiet => 3,
            Kind::Confirm => 4,
            Kind::NewPidfds => 5,
        };
        u64::from(self.generation) << 32 | kind << KEY_BITS | u64::from(self.key)
    }

    /// The reverse of [`Token::pack`]; `None` for a value that `pack` never returns.
    pub(super) fn unpack(raw: u64) -> Option<Self> {
        let kind = match (raw >> KEY_BITS) & 0xf {
            0 => Kind::Poll,
            1 => Kind::Install,
            2 => Kind::Wake,
            3 => Kind::Quiet,
            4 => Kind::Confirm,
            5 => Kind::NewPidfds,
            _ => return None,
        };
        Some(Self {
            kind,
            key: (raw & (KEYS_MAX as u64 - 1)) as u32,
            generation: (raw >> 32) as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_token_unpacks_to_itself() {
        for kind in [
            Kind::Poll,
            Kind::Install,
            Kind::Confirm,
            Kind::Wake,
            Kind::NewPidfds,
            Kind::Quiet,
        ] {
            for key in [0, 1, 77_777, KEYS_MAX as u32 - 1] {
                for generation in [0, 1, u32::MAX] {
                    let token = Token {
                        kind,
                        key,
                        generation,
                    };
                    assert_eq!(Token::unpack(token.pack()), Some(token));
                }
            }
        }
        assert_eq!(Token::unpack(u64::MAX), None);
    }
}
