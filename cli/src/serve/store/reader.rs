//! Pages of records from the file, for those who are behind.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use exitring_protocol::Loss;
use rusqlite::{Connection, OpenFlags, Result, params};

use super::tail::append_exit;
use super::{Lines, Scope};

/// Records in a page.
const PAGE_RECORDS: usize = 256;

/// One connection that reads, for one reader at a time.
pub(crate) struct Reader(Mutex<Connection>);

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        // Its files are opened by the first look: now, and not when they may be gone.
        db.query_row("SELECT count(*) FROM meta", [], |_| Ok(()))?;
        Ok(Self(Mutex::new(db)))
    }

    /// The lines from this place on, in a log that is complete up to `committed`. Blocks.
    pub(crate) fn page(&self, from: u64, committed: u64, scope: &Scope) -> Result<Lines> {
        let mut db = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One transaction: no record can be dropped between the two looks.
        let db = db.transaction()?;
        let uid = scope.uid.map(i64::from);
        let mut lines = Lines {
            lost: lost(&db, from, uid, scope)?,
            ..Lines::default()
        };
        let mut select = db.prepare_cached(&page_of(scope))?;
        let mut rows = select.query(params![uid, scope.client, from, PAGE_RECORDS])?;
        let (mut count, mut last) = (0, 0);
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            append_exit(&mut lines.text, row.get_ref(1)?.as_str()?);
            count += 1;
        }
        // What was committed meanwhile comes with the next page.
        lines.next = match count {
            PAGE_RECORDS => last + 1,
            _ => (committed + 1).max(last + 1),
        };
        Ok(lines)
    }
}

fn page_of(scope: &Scope) -> String {
    format!(
        "SELECT seq, body FROM records WHERE {} AND seq >= ?3 ORDER BY seq LIMIT ?4",
        scope.condition()
    )
}

fn lost(db: &Connection, from: u64, uid: Option<i64>, scope: &Scope) -> Result<Option<Loss>> {
    let mut select = db.prepare_cached(&format!(
        "SELECT min(first), max(last), sum(count) FROM losses WHERE {} AND last >= ?3",
        scope.condition()
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
    fn a_page_is_read_from_an_index_and_nothing_is_sorted() {
        assert_in_order(page_of);
    }
}
