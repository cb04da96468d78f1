//! Process groups in their grace period: a deadline has ended the job's process, and other
//! processes of its group have the rest of the grace.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use super::running_job::RunningJob;

/// How often the groups are checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// How often the groups are checked for zombies, which takes a scan of all processes of the
/// machine.
const ZOMBIE_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The zombie checks take at most one part in this many of the time.
const ZOMBIE_CHECK_SHARE: u32 = 10;

/// The groups, by the numbers of their jobs.
#[derive(Default)]
pub(crate) struct GraceGroups {
    in_grace: Vec<u64>,
    next_check: Option<Instant>,
    next_zombie_check: Option<Instant>,
}

impl GraceGroups {
    pub(crate) fn add(&mut self, job: u64) {
        if self.in_grace.is_empty() {
            self.next_zombie_check = Some(Instant::now() + ZOMBIE_CHECK_INTERVAL);
        }
        self.in_grace.push(job);
        self.next_check
            .get_or_insert_with(|| Instant::now() + CHECK_INTERVAL);
    }

    pub(crate) fn wait_timeout(&self) -> Option<Duration> {
        let next_check = self.next_check?;
        Some(next_check.saturating_duration_since(Instant::now()))
    }

    /// Removes and returns the groups that have no process left, or whose grace is over.
    pub(crate) fn take_ended(&mut self, running: &HashMap<u64, RunningJob>) -> Vec<u64> {
        let now = Instant::now();
        if self.next_check.is_none_or(|next_check| now < next_check) {
            return Vec::new();
        }
        let group = |job: &u64| running.get(job).filter(|job| job.child.group_in_grace());
        let (left, mut ended): (Vec<_>, _) = self
            .in_grace
            .drain(..)
            .partition(|job| group(job).is_some());
        self.in_grace = left;
        if !self.in_grace.is_empty()
            && self
                .next_zombie_check
                .is_some_and(|next_check| next_check <= now)
        {
            // Where no process reaps orphans (in many containers), zombies stay in their groups
            // forever.
            if let Ok(alive) = live_groups() {
                let alive = |job: &u64| {
                    group(job).is_some_and(|job| alive.contains(&job.child.pid().as_raw()))
                };
                let (left, zombies): (Vec<_>, Vec<_>) = self.in_grace.drain(..).partition(alive);
                self.in_grace = left;
                ended.extend(zombies);
            }
            let pause = ZOMBIE_CHECK_INTERVAL.max(now.elapsed() * ZOMBIE_CHECK_SHARE);
            self.next_zombie_check = Some(Instant::now() + pause);
        }
        self.next_check = (!self.in_grace.is_empty()).then(|| Instant::now() + CHECK_INTERVAL);
        ended
    }
}

/// The process groups with a process that is not a zombie, among the visible processes.
fn live_groups() -> io::Result<HashSet<i32>> {
    let mut alive = HashSet::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // The process may have ended meanwhile.
        if let Ok(stat) = fs::read(entry.path().join("stat")) {
            alive.extend(group_of(&stat));
        }
    }
    Ok(alive)
}

/// Parses `PID (NAME) STATE PARENT GROUP ...`. The name may contain any byte. A zombie counts as
/// being in no group.
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
    fn a_zombie_does_not_count_as_a_member_of_its_group() {
        assert_eq!(group_of(b"12 (a) b) S 1 7 7 0 -1"), Some(7));
        assert_eq!(group_of(b"12 (sh) Z 1 7 7 0 -1"), None);
        assert_eq!(group_of(b""), None);
    }

    #[test]
    fn the_group_of_this_process_is_alive() {
        let group = rustix::process::getpgrp().as_raw_nonzero().get();
        assert!(live_groups().expect("/proc").contains(&group));
    }
}
