//! Pages of records from the file, for subscribers that are behind.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use exitring_protocol::Loss;
use rusqlite::{Connection, OpenFlags, Result, params};

use super::page::RecordPage;
use super::tables;
use crate::serve::watches::Scope;

/// Records in a page.
const PAGE_RECORDS: usize = 256;

/// A read-only connection, for one reader at a time.
pub(crate) struct Reader(Mutex<Connection>);

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        // The first query opens the files: now, and not when they may have been deleted.
        db.query_row("SELECT count(*) FROM meta", [], |_| Ok(()))?;
        Ok(Self(Mutex::new(db)))
    }

    /// A page of records from a sequence number on. `committed` is the last committed one. Blocks.
    pub(crate) fn page(&self, from: u64, committed: u64, scope: &Scope) -> Result<RecordPage> {
        let mut db = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One transaction: no record can be dropped between the two queries.
        let db = db.transaction()?;
        let uid = scope.uid.map(i64::from);
        let mut page = RecordPage {
            lost: lost(&db, from, uid, scope)?,
            ..RecordPage::default()
        };
        let mut select = db.prepare_cached(&page_of(scope))?;
        let mut rows = select.query(params![uid, scope.client, from, PAGE_RECORDS])?;
        let (mut count, mut last) = (0, 0);
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            page.append(row.get_ref(1)?.as_str()?);
            count += 1;
        }
        // Records that were committed meanwhile are on the next page.
        page.next = match count {
            PAGE_RECORDS => last + 1,
            _ => (committed + 1).max(last + 1),
        };
        Ok(page)
    }
}

fn page_of(scope: &Scope) -> String {
    format!(
        "SELECT seq, body FROM records WHERE {} AND seq >= ?3 ORDER BY seq LIMIT ?4",
        tables::condition(scope)
    )
}

fn lost(db: &Connection, from: u64, uid: Option<i64>, scope: &Scope) -> Result<Option<Loss>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT min(first), max(last), sum(count) FROM losses WHERE {} AND last >= ?3",
        tables::condition(scope)
    ))?;
    select.query_row(params![uid, scope.client, from], |row| {
        let Some(first) = row.get::<_, Option<u64>>(0)? else {
            return Ok(None);
        };
        Ok(Some(Loss {
            from: first.max(from),
            to: row.get(1)?,
            count: row.get(2)?,
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::store::tables::tests::assert_in_order;

    #[test]
    fn a_page_is_read_from_an_index_without_a_sort() {
        assert_in_order(page_of);
    }
}
