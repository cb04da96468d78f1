//! The number of rounds: fixed, or until all intervals are narrow.

use std::ops::ControlFlow;

use anyhow::Result;

use crate::report::results::Report;
use crate::types::width::Width;

/// How many rounds are made.
#[derive(Clone, Copy)]
pub(super) struct Schedule {
    /// The rounds that are made in any case.
    pub(super) least: u32,
    pub(super) until: Option<Until>,
}

#[derive(Clone, Copy)]
pub(super) struct Until {
    pub(super) width: Width,
    pub(super) max_rounds: u32,
}

/// A contestant whose interval is not narrow enough.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wide {
    pub(super) title: String,
    /// `None`: there is no interval, because the contestant has too few rounds with a value.
    pub(super) width: Option<f64>,
}

impl Schedule {
    /// Makes rounds until the schedule is fulfilled or `round` breaks off. Rounds count from 1.
    /// `wide` names the contestants whose intervals are wider than a limit. Returns those that are
    /// still wide at the end, and the number of rounds.
    pub(super) fn run<S>(
        self,
        state: &mut S,
        mut round: impl FnMut(&mut S, u32) -> Result<ControlFlow<()>>,
        mut wide: impl FnMut(&mut S, Width) -> Vec<Wide>,
    ) -> Result<(Vec<Wide>, u32)> {
        let mut made = 0;
        loop {
            if made >= self.least {
                let Some(until) = self.until else {
                    return Ok((Vec::new(), made));
                };
                let wide = wide(state, until.width);
                if wide.is_empty() || made >= until.max_rounds {
                    return Ok((wide, made));
                }
            }
            if round(state, made + 1)?.is_break() {
                return Ok((Vec::new(), made));
            }
            made += 1;
        }
    }
}

/// The contestants of a size whose interval is wider than the limit. Contestants without a ratio do
/// not count: more rounds do not give them one.
pub(super) fn wide(report: &Report, live: Option<u32>, limit: Width) -> Vec<Wide> {
    let lines = report.summary.iter();
    let lines = lines.filter(|line| line.live == live && !line.is_reference);
    let wide = lines.filter_map(|line| {
        let width = line.metrics.get(&report.headline)?.ratio?.width();
        let is_wide = width.is_none_or(|width| width > limit.part());
        is_wide.then(|| Wide {
            title: line.title.clone(),
            width,
        })
    });
    wide.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::environment::Environment;
    use crate::types::kind::Kind;
    use crate::types::metric::Metric;
    use crate::types::run::Run;

    fn schedule(least: u32, max_rounds: u32) -> Schedule {
        let width = Width::from_part(0.05);
        Schedule {
            least,
            until: Some(Until { width, max_rounds }),
        }
    }

    /// Runs a schedule in which the interval is narrow from a round on. Returns the rounds that were
    /// made, whether a wide interval is left, and how often the intervals were asked for.
    fn rounds(schedule: Schedule, narrow_from: u32) -> (Vec<u32>, bool, u32) {
        let mut state = (Vec::new(), 0);
        let round = |state: &mut (Vec<u32>, u32), round| {
            state.0.push(round);
            Ok(ControlFlow::Continue(()))
        };
        let wide = |state: &mut (Vec<u32>, u32), _| {
            state.1 += 1;
            let wide = (state.0.len() as u32) < narrow_from;
            let title = || Wide {
                title: "wide".into(),
                width: Some(0.1),
            };
            wide.then(title).into_iter().collect()
        };
        let (wide, made) = schedule.run(&mut state, round, wide).expect("no error");
        assert_eq!(made as usize, state.0.len());
        (state.0, !wide.is_empty(), state.1)
    }

    #[test]
    fn rounds_are_added_until_the_intervals_are_narrow_or_the_limit_is_reached() {
        let numbers = |count| (1..=count).collect::<Vec<u32>>();
        assert_eq!(rounds(schedule(6, 40), 9), (numbers(9), false, 4));
        assert_eq!(rounds(schedule(6, 40), 2), (numbers(6), false, 1));
        assert_eq!(rounds(schedule(6, 12), 99), (numbers(12), true, 7));
        assert_eq!(rounds(schedule(6, 6), 99), (numbers(6), true, 1));
        let fixed = Schedule {
            least: 3,
            until: None,
        };
        assert_eq!(rounds(fixed, 99), (numbers(3), false, 0));
    }

    #[test]
    fn an_interrupt_and_an_error_end_the_rounds() {
        let stop = |made: &mut u32, _| {
            *made += 1;
            Ok(match *made {
                1..4 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            })
        };
        let ended = schedule(6, 40).run(&mut 0, stop, |_, _| Vec::new());
        assert_eq!(ended.expect("no error"), (Vec::new(), 3));
        let fail = |_: &mut (), _| anyhow::bail!("failed");
        assert!(
            schedule(6, 40)
                .run(&mut (), fail, |_, _| Vec::new())
                .is_err()
        );
    }

    #[test]
    fn a_contestant_is_wide_until_its_interval_is_narrower_than_the_limit() {
        let kinds = [Kind::Exitring, Kind::Tokio, Kind::Shadow, Kind::WaitLoop];
        let mut report = Report::new("storm", &[], &kinds, 6, Environment::default());
        report.headline = Metric::Drain;
        for round in 1..=8 {
            let noisy = 1000 + 100 * u64::from(round % 3);
            // The last contestant has no value, so it has no ratio.
            for (contestant, drain_ns) in kinds.into_iter().zip([1000, 1500, noisy, 0]) {
                report.add(Run {
                    contestant,
                    title: contestant.name(),
                    round,
                    drain_ns,
                    ..Run::default()
                });
            }
            report.summarize();
            let titles = |part| {
                let wide = wide(&report, None, Width::from_part(part)).into_iter();
                wide.map(|wide| wide.title).collect::<Vec<_>>()
            };
            match round {
                ..6 => assert_eq!(titles(0.05), ["tokio", "shadow"], "no interval yet"),
                _ => {
                    assert_eq!(titles(0.05), ["shadow"]);
                    assert!(titles(0.5).is_empty());
                }
            }
        }
        assert!(wide(&report, Some(1), Width::from_part(0.05)).is_empty());
    }
}
