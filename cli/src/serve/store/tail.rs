//! The newest records, in memory, for those who keep up.

use std::collections::VecDeque;
use std::sync::{PoisonError, RwLock};

use super::{Lines, Scope};

/// How much a page has at most: what is written to a socket at a time.
const PAGE_BYTES: usize = 64 * 1024;
/// How many records are looked at for a page, whosever they are.
const LOOK_AT_MAX: usize = 4096;

/// Records that were committed, in the log's order, without gaps; a fixed number of them.
pub(crate) struct Tail {
    inner: RwLock<Inner>,
    capacity: usize,
}

struct Inner {
    /// The place in the log of the first.
    first: u64,
    entries: VecDeque<Entry>,
}

pub(super) struct Entry {
    pub(super) uid: u32,
    pub(super) client: String,
    pub(super) body: String,
}

impl Tail {
    /// An empty one; the next record is at `next` in the log.
    pub(crate) fn new(next: u64, capacity: usize) -> Self {
        let entries = VecDeque::new();
        let first = next;
        let inner = RwLock::new(Inner { first, entries });
        Self { inner, capacity }
    }

    pub(super) fn push(&self, entries: impl Iterator<Item = Entry>) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.entries.extend(entries);
        let beyond = inner.entries.len().saturating_sub(self.capacity);
        inner.entries.drain(..beyond);
        inner.first += beyond as u64;
    }

    /// The lines from this place on; `None`: older than what is here.
    pub(crate) fn page(&self, from: u64, scope: &Scope) -> Option<Lines> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let skip = usize::try_from(from.checked_sub(inner.first)?).ok()?;
        let mut lines = Lines {
            next: from,
            ..Lines::default()
        };
        for entry in inner.entries.iter().skip(skip).take(LOOK_AT_MAX) {
            if lines.text.len() >= PAGE_BYTES {
                break;
            }
            lines.next += 1;
            if scope.has(entry.uid, &entry.client) {
                append_exit(&mut lines.text, &entry.body);
            }
        }
        Some(lines)
    }
}

/// A record as the line that tells of it.
pub(super) fn append_exit(text: &mut Vec<u8>, body: &str) {
    text.extend_from_slice(b"{\"exit\":");
    text.extend_from_slice(body.as_bytes());
    text.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uid: u32, seq: u64) -> Entry {
        Entry {
            uid,
            client: "c".into(),
            body: seq.to_string(),
        }
    }

    fn text(lines: &Lines) -> &str {
        std::str::from_utf8(&lines.text).expect("it is text")
    }

    #[test]
    fn a_page_has_what_is_asked_for_and_older_places_are_refused() {
        let everybody = Scope {
            uid: None,
            client: None,
        };
        let two = Scope {
            uid: Some(2),
            client: None,
        };
        let tail = Tail::new(10, 3);
        tail.push([entry(1, 10), entry(2, 11), entry(1, 12), entry(2, 13)].into_iter());
        assert!(tail.page(10, &everybody).is_none());
        let page = tail.page(11, &everybody).expect("it is there");
        assert_eq!(text(&page), "{\"exit\":11}\n{\"exit\":12}\n{\"exit\":13}\n");
        assert_eq!(page.next, 14);
        let page = tail.page(12, &two).expect("it is there");
        assert_eq!((text(&page), page.next), ("{\"exit\":13}\n", 14));
        let page = tail.page(14, &two).expect("it is there");
        assert_eq!((text(&page), page.next), ("", 14));
    }
}
