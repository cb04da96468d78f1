//! The division of a list into parts that take equally long (`--durations` with `--shard`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The part of each job, from 1. The longest job comes first, and each goes to the part with the
/// least to do. The result depends on the durations only, so machines with the same list and the
/// same log agree on it.
pub(super) fn assign(durations: &[u64], count: u64) -> Vec<u64> {
    let mut order: Vec<usize> = (0..durations.len()).collect();
    order.sort_by_key(|&job| (Reverse(durations[job]), job));
    // Parts beyond the number of jobs get none.
    let used = count.min(durations.len() as u64);
    // Of parts with the same load, the one with the fewest jobs is the next, then the first one.
    let mut parts: BinaryHeap<_> = (1..=used)
        .map(|part| Reverse((0_u64, 0_u64, part)))
        .collect();
    let mut assigned = vec![0; durations.len()];
    for job in order {
        if let Some(mut least) = parts.peek_mut() {
            let Reverse((load, jobs, part)) = &mut *least;
            *load = load.saturating_add(durations[job]);
            *jobs += 1;
            assigned[job] = *part;
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_take_equally_long() {
        assert_eq!(assign(&[1, 2, 3, 4, 5], 2), [1, 1, 2, 2, 1]);
        assert_eq!(assign(&[10, 1, 1, 1], 2), [1, 2, 2, 2]);
        assert_eq!(assign(&[7; 5], 2), [1, 2, 1, 2, 1]);
    }

    #[test]
    fn durations_of_zero_and_of_centuries_are_divided_too() {
        assert_eq!(assign(&[0; 4], 2), [1, 2, 1, 2]);
        assert_eq!(assign(&[u64::MAX; 4], 2), [1, 2, 1, 2]);
        assert!(assign(&[], 3).is_empty());
    }

    #[test]
    fn every_job_has_one_of_the_parts() {
        let durations: Vec<u64> = (0..1000).map(|job| job * 7919 % 1009).collect();
        for count in [1, 2, 3, 7, 1000, u64::MAX] {
            let parts = assign(&durations, count);
            assert!(parts.iter().all(|part| (1..=count).contains(part)));
            let load = |part| {
                let jobs = durations.iter().zip(&parts).filter(|(_, it)| **it == part);
                jobs.map(|(duration, _)| duration).sum::<u64>()
            };
            if count <= 7 {
                let loads: Vec<_> = (1..=count).map(load).collect();
                let spread = loads.iter().max().zip(loads.iter().min());
                assert!(
                    spread.is_some_and(|(max, min)| max - min <= 1009),
                    "{loads:?}"
                );
            }
        }
    }
}
