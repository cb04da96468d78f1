//! A page of the log, as lines to send.

use exitring_protocol::Loss;

#[derive(Debug, Default)]
pub(crate) struct RecordPage {
    /// Records that were asked for and are not kept any more. Sent first.
    pub(crate) lost: Option<Loss>,
    pub(crate) text: Vec<u8>,
    /// Where the next page begins.
    pub(crate) next: u64,
}

impl RecordPage {
    /// Appends the line that reports a record.
    pub(super) fn append(&mut self, body: &str) {
        self.text.extend_from_slice(b"{\"exit\":");
        self.text.extend_from_slice(body.as_bytes());
        self.text.extend_from_slice(b"}\n");
    }
}
