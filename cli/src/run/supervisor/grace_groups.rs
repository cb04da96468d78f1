//! Groups of jobs whose process a deadline has ended, and of which others have the rest of the grace.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use crate::run::supervisor::Running;

/// How often it is looked whether they have ended.
const EVERY: Duration = Duration::from_millis(10);
/// And whether all that is left of them are zombies, for which all processes of the machine are looked at.
const ZOMBIES_EVERY: Duration = Duration::from_millis(100);
/// That takes at most one part in so many of our time.
const ZOMBIES_SHARE: u32 = 10;

/// By the numbers of their jobs.
#[derive(Default)]
pub(crate) struct Groups {
    in_grace: Vec<u64>,
    look: Option<Instant>,
    look_for_zombies: Option<Instant>,
}

impl Groups {
    pub(crate) fn add(&mut self, job: u64) {
        if self.in_grace.is_empty() {
            self.look_for_zombies = Some(Instant::now() + ZOMBIES_EVERY);
        }
        self.in_grace.push(job);
        self.look.get_or_insert_with(|| Instant::now() + EVERY);
    }

    pub(crate) fn patience(&self) -> Option<Duration> {
        let look = self.look?;
        Some(look.saturating_duration_since(Instant::now()))
    }

    /// Takes out those of which nobody is left, or whose grace is over.
    pub(crate) fn ended(&mut self, running: &HashMap<u64, Running>) -> Vec<u64> {
        let now = Instant::now();
        if self.look.is_none_or(|look| now < look) {
            return Vec::new();
        }
        let group = |job: &u64| running.get(job).filter(|job| job.child.group_in_grace());
        let (left, mut ended): (Vec<_>, _) = self
            .in_grace
            .drain(..)
            .partition(|job| group(job).is_some());
        self.in_grace = left;
        if !self.in_grace.is_empty() && self.look_for_zombies.is_some_and(|look| look <= now) {
            // Where nobody reaps orphans (in many containers), zombies stay in their groups for ever.
            if let Ok(alive) = groups_alive() {
                let alive = |job: &u64| {
                    group(job).is_some_and(|job| alive.contains(&job.child.pid().as_raw()))
                };
                let (left, zombies): (Vec<_>, Vec<_>) = self.in_grace.drain(..).partition(alive);
                self.in_grace = left;
                ended.extend(zombies);
            }
            let pause = ZOMBIES_EVERY.max(now.elapsed() * ZOMBIES_SHARE);
            self.look_for_zombies = Some(Instant::now() + pause);
        }
        self.look = (!self.in_grace.is_empty()).then(|| Instant::now() + EVERY);
        ended
    }
}

/// The process groups that have anybody but zombies in them, as far as we may see them.
fn groups_alive() -> io::Result<HashSet<i32>> {
    let mut alive = HashSet::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // It may have ended meanwhile.
        if let Ok(stat) = fs::read(entry.path().join("stat")) {
            alive.extend(group_of(&stat));
        }
    }
    Ok(alive)
}

/// `PID (NAME) STATE PARENT GROUP ...`, where a name may have anything in it; none of a zombie.
fn group_of(stat: &[u8]) -> Option<i32> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_of_its_group_and_a_zombie_of_none() {
        assert_eq!(group_of(b"12 (a) b) S 1 7 7 0 -1"), Some(7));
        assert_eq!(group_of(b"12 (sh) Z 1 7 7 0 -1"), None);
        assert_eq!(group_of(b""), None);
    }

    #[test]
    fn our_own_group_is_alive() {
        let ours = rustix::process::getpgrp().as_raw_nonzero().get();
        assert!(groups_alive().expect("/proc").contains(&ours));
    }
}
