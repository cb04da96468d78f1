//! The newest records, in memory, for subscribers that keep up.

use std::collections::VecDeque;
use std::sync::{PoisonError, RwLock};

use super::page::RecordPage;
use crate::serve::watches::Scope;

/// The size of a page: what is written to a socket at a time.
const PAGE_BYTES: usize = 64 * 1024;
/// How many records are scanned for a page, of any user.
const SCAN_MAX: usize = 4096;

/// The last committed records, up to a fixed number, in order and without gaps.
pub(crate) struct RecentRecords {
    inner: RwLock<Inner>,
    capacity: usize,
}

struct Inner {
    /// The sequence number of the first.
    first: u64,
    entries: VecDeque<Entry>,
}

/// A committed record.
pub(super) struct Entry {
    pub(super) uid: u32,
    pub(super) client: String,
    pub(super) body: String,
}

impl RecentRecords {
    /// Creates an empty list. The next record has the sequence number `next`.
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

    /// A page of records from a sequence number on. `None` if that record is older than the list.
    pub(crate) fn page(&self, from: u64, scope: &Scope) -> Option<RecordPage> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let skip = usize::try_from(from.checked_sub(inner.first)?).ok()?;
        let mut page = RecordPage {
            next: from,
            ..RecordPage::default()
        };
        for entry in inner.entries.iter().skip(skip).take(SCAN_MAX) {
            if page.text.len() >= PAGE_BYTES {
                break;
            }
            page.next += 1;
            if scope.has(entry.uid, &entry.client) {
                page.append(&entry.body);
            }
        }
        Some(page)
    }
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

    fn text(page: &RecordPage) -> &str {
        std::str::from_utf8(&page.text).expect("it is text")
    }

    #[test]
    fn a_page_has_the_records_of_its_scope_and_none_is_older_than_the_list() {
        let everyone = Scope {
            uid: None,
            client: None,
        };
        let two = Scope {
            uid: Some(2),
            client: None,
        };
        let recent = RecentRecords::new(10, 3);
        recent.push([entry(1, 10), entry(2, 11), entry(1, 12), entry(2, 13)].into_iter());
        assert!(recent.page(10, &everyone).is_none());
        let page = recent.page(11, &everyone).expect("it is there");
        assert_eq!(text(&page), "{\"exit\":11}\n{\"exit\":12}\n{\"exit\":13}\n");
        assert_eq!(page.next, 14);
        let page = recent.page(12, &two).expect("it is there");
        assert_eq!((text(&page), page.next), ("{\"exit\":13}\n", 14));
        let page = recent.page(14, &two).expect("it is there");
        assert_eq!((text(&page), page.next), ("", 14));
    }
}
