//! The jobs with the largest values of something.

use std::rc::Rc;

use super::collector::ShownJob;

/// A number of jobs, those with the largest values of all that were added.
pub(super) struct Most {
    max: usize,
    jobs: Vec<(u64, Rc<ShownJob>)>,
}

impl Most {
    pub(super) fn new(max: usize) -> Self {
        let jobs = Vec::with_capacity(max);
        Self { max, jobs }
    }

    /// Adds a job, which `show` makes only if it is kept.
    pub(super) fn add(&mut self, value: u64, show: impl FnOnce() -> Rc<ShownJob>) {
        if self.jobs.len() < self.max {
            return self.jobs.push((value, show()));
        }
        // There are few.
        let least = self.jobs.iter_mut().min_by_key(|(value, _)| *value);
        if let Some(least) = least.filter(|(least, _)| *least < value) {
            *least = (value, show());
        }
    }

    pub(super) fn jobs(&self) -> impl Iterator<Item = Rc<ShownJob>> {
        self.jobs.iter().map(|(_, shown)| Rc::clone(shown))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::run::report::html::collector::EndKind;

    #[test]
    fn the_largest_values_are_kept() {
        let mut most = Most::new(2);
        for (job, value) in [(1, 5), (2, 9), (3, 5), (4, 1), (5, 7)] {
            most.add(value, || {
                Rc::new(ShownJob {
                    job,
                    attempts: 1,
                    kind: EndKind::Succeeded,
                    result: String::new(),
                    command: String::new(),
                    wall: Duration::ZERO,
                    cpu: None,
                    memory: None,
                    slow: false,
                    repeat: None,
                })
            });
        }
        let mut jobs: Vec<_> = most.jobs().map(|shown| shown.job).collect();
        jobs.sort_unstable();
        assert_eq!(jobs, [2, 5]);
    }
}
