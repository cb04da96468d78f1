//! When a run ends early (`--halt`, `--fail-fast`).

use std::str::FromStr;

use super::shutdown::Stop;

/// The rule that ends a run early.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Halt {
    /// What is done about running jobs.
    pub(crate) stop: Stop,
    pub(crate) counted: Counted,
    limit: Limit,
}

/// The value of `--halt`; `None` is `never`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HaltRule(pub(crate) Option<Halt>);

/// The jobs that a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Failed,
    Succeeded,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    Jobs(u64),
    /// Of all jobs of this run.
    Percent(f64),
}

impl Halt {
    /// The rule of `--fail-fast`.
    pub(crate) fn fail_fast(stop: Stop) -> Self {
        Self {
            stop,
            counted: Counted::Failed,
            limit: Limit::Jobs(1),
        }
    }

    /// Whether the rule counts a part of the jobs of this run.
    #[cfg(feature = "queue")]
    pub(crate) fn is_percentage(&self) -> bool {
        matches!(self.limit, Limit::Percent(_))
    }

    /// Whether the run ends now. `all` is the number of jobs of this run, if it is known.
    pub(crate) fn is_reached(&self, failed: u64, succeeded: u64, all: Option<u64>) -> bool {
        let count = match self.counted {
            Counted::Failed => failed,
            Counted::Succeeded => succeeded,
            Counted::Done => failed + succeeded,
        };
        match self.limit {
            Limit::Jobs(limit) => count >= limit,
            Limit::Percent(percent) => {
                let enough = |all| count as f64 * 100.0 >= percent * all as f64;
                count > 0 && all.is_some_and(enough)
            }
        }
    }
}

impl FromStr for HaltRule {
    type Err = String;

    /// Parses the value as GNU parallel does: `soon,fail=1`, `now,success=10%`, and the short forms
    /// 0, 1, 2, -1, -2 and 10%.
    fn from_str(text: &str) -> Result<Self, String> {
        const WANTED: &str = "a rule is WHEN,WHAT=N or WHEN,WHAT=N%, with soon or now, and fail, success or done, as in now,fail=3; or never";
        let rule = |stop, counted, limit| {
            Ok(Self(Some(Halt {
                stop,
                counted,
                limit,
            })))
        };
        let one = Limit::Jobs(1);
        match text {
            "never" | "0" => return Ok(Self(None)),
            "1" | "soon" => return rule(Stop::Soon, Counted::Failed, one),
            "2" | "now" => return rule(Stop::Now, Counted::Failed, one),
            "-1" => return rule(Stop::Soon, Counted::Succeeded, one),
            "-2" => return rule(Stop::Now, Counted::Succeeded, one),
            _ => {}
        }
        if let Some(percent) = text.strip_suffix('%')
            && !text.contains('=')
        {
            return rule(Stop::Soon, Counted::Failed, parse_percent(percent)?);
        }
        let (stop, rest) = text.split_once(',').ok_or(WANTED)?;
        let (counted, limit) = rest.split_once('=').ok_or(WANTED)?;
        let stop = match stop {
            "soon" => Stop::Soon,
            "now" => Stop::Now,
            _ => return Err(WANTED.into()),
        };
        let counted = match counted {
            "fail" => Counted::Failed,
            "success" => Counted::Succeeded,
            "done" => Counted::Done,
            _ => return Err(WANTED.into()),
        };
        let limit = match limit.strip_suffix('%') {
            Some(percent) => parse_percent(percent)?,
            None => match limit.parse() {
                Ok(0) => return Err("with 0 the run would end before its first job".into()),
                Ok(jobs) => Limit::Jobs(jobs),
                Err(_) => return Err(WANTED.into()),
            },
        };
        rule(stop, counted, limit)
    }
}

fn parse_percent(text: &str) -> Result<Limit, String> {
    match text.parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Limit::Percent(percent)),
        _ => Err("a percentage is above 0% and at most 100%".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halt(text: &str) -> Halt {
        text.parse::<HaltRule>().expect(text).0.expect(text)
    }

    #[test]
    fn rules_count_jobs_or_a_part_of_them() {
        assert_eq!("never".parse(), Ok(HaltRule(None)));
        assert_eq!("0".parse(), Ok(HaltRule(None)));
        assert_eq!(halt("soon,fail=1"), Halt::fail_fast(Stop::Soon));
        assert_eq!(halt("1"), halt("soon,fail=1"));
        assert_eq!(halt("2"), halt("now,fail=1"));
        assert_eq!(halt("-1"), halt("soon,success=1"));
        assert_eq!(halt("-2"), halt("now,success=1"));
        assert_eq!(halt("30%"), halt("soon,fail=30%"));
        let reached =
            |text: &str, failed, succeeded, all| halt(text).is_reached(failed, succeeded, all);
        assert!(!reached("now,fail=3", 2, 9, None));
        assert!(reached("now,fail=3", 3, 0, None));
        assert!(!reached("now,success=2", 9, 1, None));
        assert!(reached("now,success=2", 0, 2, None));
        assert!(reached("now,done=2", 1, 1, None));
        assert!(!reached("now,fail=50%", 2, 0, Some(5)));
        assert!(reached("now,fail=50%", 3, 0, Some(5)));
        assert!(!reached("now,fail=50%", 3, 0, None));
        assert!(!reached("now,fail=0.1%", 0, 0, Some(0)));
    }

    #[test]
    fn other_rules_are_refused() {
        for text in [
            "",
            "3",
            "later,fail=1",
            "now,fail",
            "now,fail=0",
            "now,fail=-1",
            "now,fail=0%",
            "now,fail=101%",
            "now,lost=1",
            "now,fail=x%",
            "%",
            "nan%",
        ] {
            text.parse::<HaltRule>().expect_err(text);
        }
    }
}
