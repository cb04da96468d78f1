//! The clock for the age of records.
//!
//! The age of a record must not depend on the wall clock: if someone set that forward by a week, a
//! week of records would be dropped. Within a boot this clock follows the boot clock. Only the wall
//! clock measures the time between two boots; a negative time there counts as zero.

use rusqlite::{Connection, OptionalExtension, Result, types::FromSql};

use crate::serve::sys::clock::{boot_id, boottime_ms, now_ms};

/// The times of the other clocks.
#[derive(Clone, Debug)]
struct Times {
    boot: String,
    boottime_ms: u64,
    wall_ms: u64,
}

impl Times {
    fn now() -> Self {
        Self {
            boot: boot_id(),
            boottime_ms: boottime_ms(),
            wall_ms: now_ms(),
        }
    }
}

/// The clock of one state directory. A new one starts at the time of the wall clock.
pub(crate) struct AgeClock {
    /// Its time when this boot began. That may be before the state directory was created.
    at_boot_ms: i64,
}

impl AgeClock {
    /// Continues from the time that was saved last.
    pub(super) fn open(db: &Connection) -> Result<Self> {
        Self::open_at(db, &Times::now())
    }

    fn open_at(db: &Connection, now: &Times) -> Result<Self> {
        let then = (
            read::<String>(db, "age_boot")?,
            read::<u64>(db, "age_boottime_ms")?,
            read::<u64>(db, "age_wall_ms")?,
            read::<u64>(db, "age_ms")?,
        );
        let now_ms = match then {
            (Some(boot), Some(boottime_ms), _, Some(age_ms)) if boot == now.boot => {
                age_ms + now.boottime_ms.saturating_sub(boottime_ms)
            }
            (_, _, Some(wall_ms), Some(age_ms)) => age_ms + now.wall_ms.saturating_sub(wall_ms),
            _ => now.wall_ms,
        };
        let this = Self {
            at_boot_ms: now_ms.cast_signed() - now.boottime_ms.cast_signed(),
        };
        this.save_at(db, now)?;
        Ok(this)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.at(boottime_ms())
    }

    /// Saves the time, for a start after the next boot.
    pub(super) fn save(&self, db: &Connection) -> Result<()> {
        self.save_at(db, &Times::now())
    }

    fn save_at(&self, db: &Connection, now: &Times) -> Result<()> {
        let mut write = db.prepare_cached(
            "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
        )?;
        write.execute(("age_boot", &now.boot))?;
        write.execute(("age_boottime_ms", now.boottime_ms))?;
        write.execute(("age_wall_ms", now.wall_ms))?;
        write.execute(("age_ms", self.at(now.boottime_ms)))?;
        Ok(())
    }

    fn at(&self, boottime_ms: u64) -> u64 {
        let now = self.at_boot_ms.saturating_add(boottime_ms.cast_signed());
        u64::try_from(now).unwrap_or(0)
    }
}

fn read<T: FromSql>(db: &Connection, name: &str) -> Result<Option<T>> {
    db.query_row("SELECT value FROM meta WHERE name = ?", [name], |row| {
        row.get(0)
    })
    .optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(boot: &str, boottime_ms: u64, wall_ms: u64) -> Times {
        Times {
            boot: boot.into(),
            boottime_ms,
            wall_ms,
        }
    }

    #[test]
    fn age_follows_the_boot_clock_when_the_wall_clock_is_set() {
        let db = Connection::open_in_memory().expect("there is memory");
        db.execute_batch(crate::serve::store::schema::SCHEMA)
            .expect("it is SQL");
        let open = |boot, boottime_ms, wall_ms| {
            AgeClock::open_at(&db, &times(boot, boottime_ms, wall_ms)).expect("it can be read")
        };
        let clock = open("first", 1_000, 50_000);
        assert_eq!(clock.at(1_000), 50_000);
        assert_eq!(clock.at(3_000), 52_000);
        // A restart in the same boot, with the wall clock set forward and back.
        assert_eq!(open("first", 5_000, 9_000_000).at(5_000), 54_000);
        assert_eq!(open("first", 6_000, 7).at(6_000), 55_000);
        // After the next boot, the wall clock counts from its last time, but never backwards.
        assert_eq!(open("second", 10, 1_007).at(10), 56_000);
        assert_eq!(open("third", 20, 3).at(120), 56_100);
    }
}
