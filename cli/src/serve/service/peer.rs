//! The user at the other end of a connection.

use crate::serve::watches::Scope;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Peer {
    /// What this user sees. Root sees the watches and records of all users, unless it has given a
    /// client name.
    pub(crate) fn scope(self, client: Option<&str>) -> Scope {
        Scope {
            uid: (self.uid != 0 || client.is_some()).then_some(self.uid),
            client: client.map(Into::into),
        }
    }
}
