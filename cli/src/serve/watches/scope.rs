//! Which watches and records a client sees.

/// The user and the client name that a watch or record must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// `None`: all users.
    pub(crate) uid: Option<u32>,
    /// `None`: all client names.
    pub(crate) client: Option<String>,
}

impl Scope {
    pub(crate) fn has(&self, uid: u32, client: &str) -> bool {
        self.uid.is_none_or(|own| own == uid)
            && self.client.as_deref().is_none_or(|own| own == client)
    }
}
