//! One part of the list, so that several machines share it without communication.

use std::env;
use std::fmt;
use std::str::FromStr;

use super::slurm;
use crate::failure::Failure;
use crate::run::schedule::environment;

/// Part `index` of `count`. Each job belongs to exactly one part, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    /// From 1.
    index: u64,
    count: u64,
}

/// The value of `--shard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// This part.
    Part(Shard),
    /// As the environment says.
    Auto,
}

/// A launcher that runs the same command on several machines and sets the index of each in its
/// environment.
struct Launcher {
    name: &'static str,
    index: &'static str,
    /// The index of the first machine.
    first: u64,
    count: &'static str,
}

/// The environment variable that corresponds to `--shard`.
const VARIABLE: &str = environment::SHARD;
/// The value that selects the whole list.
const NONE: &str = "none";

/// Those besides Slurm, which comes first.
const LAUNCHERS: [Launcher; 4] = [
    Launcher {
        name: "Kubernetes",
        index: "JOB_COMPLETION_INDEX",
        first: 0,
        count: "EXITRING_SHARD_COUNT",
    },
    Launcher {
        name: "CI",
        index: "CI_NODE_INDEX",
        first: 1,
        count: "CI_NODE_TOTAL",
    },
    Launcher {
        name: "CircleCI",
        index: "CIRCLE_NODE_INDEX",
        first: 0,
        count: "CIRCLE_NODE_TOTAL",
    },
    Launcher {
        name: "Buildkite",
        index: "BUILDKITE_PARALLEL_JOB",
        first: 0,
        count: "BUILDKITE_PARALLEL_JOB_COUNT",
    },
];

impl Shard {
    pub(crate) const WHOLE: Self = Self { index: 1, count: 1 };

    /// Part `index`, from 0, of `count`, if there is such a part.
    pub(super) fn from_zero(index: u64, count: u64) -> Option<Self> {
        (index < count).then(|| Self {
            index: index + 1,
            count,
        })
    }

    /// From 1.
    pub(super) fn index(self) -> u64 {
        self.index
    }

    pub(super) fn count(self) -> u64 {
        self.count
    }

    pub(crate) fn contains(self, number: u64) -> bool {
        (number - 1) % self.count == self.index - 1
    }

    /// How many of the first `numbers` jobs belong to this part.
    pub(crate) fn count_in(self, numbers: u64) -> u64 {
        numbers.saturating_sub(self.index - 1).div_ceil(self.count)
    }

    /// The part that the environment selects, and a description of the variables that select it.
    pub(crate) fn from_environment() -> Result<(Self, Option<String>), Failure> {
        Self::from_variables(variable)
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, Option<String>), Failure> {
        if let Some(part) = slurm::part(&variable)? {
            return Ok(part);
        }
        for Launcher {
            name,
            index,
            first,
            count,
        } in LAUNCHERS
        {
            let Some(index_text) = variable(index) else {
                continue;
            };
            let bad = |what: &str| {
                Failure::usage(format!("{name} selects a shard by {index}={index_text}, {what}"))
                    .remedy(format!("set {count} to the number of shards, or select one with --shard i/n; --shard none runs the whole list"))
            };
            let Some(count_text) = variable(count) else {
                // An index without a count selects nothing, except where it always means a part.
                match name {
                    "Kubernetes" => {
                        return Err(bad(&format!(
                            "but {count}, the number of shards, is not set"
                        )));
                    }
                    _ => continue,
                }
            };
            let number = |text: &str| text.trim().parse::<u64>().ok();
            let (Some(i), Some(n)) = (number(&index_text), number(&count_text)) else {
                return Err(bad(&format!(
                    "{count}={count_text}, and one of them is not a number"
                )));
            };
            let Some(shard) = i
                .checked_sub(first)
                .and_then(|index| Self::from_zero(index, n))
            else {
                return Err(bad(&format!(
                    "{count}={count_text}, and there is no such shard"
                )));
            };
            let launcher =
                (n > 1).then(|| format!("{name} ({index}={index_text}, {count}={count_text})"));
            return Ok((shard, launcher));
        }
        Ok((Self::WHOLE, None))
    }
}

impl Wanted {
    /// The selection where there is no `--shard`.
    ///
    /// A run in a job of another run selects its whole list: the variables, those of a launcher
    /// too, have selected the part that the other run has.
    pub(crate) fn from_environment() -> Result<Self, Failure> {
        if variable(environment::JOB).is_some() {
            return Ok(Self::Part(Shard::WHOLE));
        }
        match variable(VARIABLE) {
            None => Ok(Self::Auto),
            Some(text) => text
                .parse()
                .map_err(|error| Failure::usage(format!("{VARIABLE}: {error}"))),
        }
    }
}

/// Describes the shard in the environment of jobs. The caller must not have started a thread yet.
pub(crate) fn describe_to_jobs(shard: Shard) {
    // SAFETY: no other thread exists that could read or change the environment.
    unsafe { env::set_var(VARIABLE, shard.to_string()) };
}

/// Reads an environment variable. An empty variable counts as unset, because many scripts unset
/// variables that way.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto),
            NONE => return Ok(Self::Part(Shard::WHOLE)),
            _ => {}
        }
        let wrong = || {
            format!("a shard is i/n with i from 1 to n, as in 2/8, or none, or auto; not {text:?}")
        };
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let number = |text: &str| text.parse().map_err(|_| wrong());
        let (index, count) = (number(index)?, number(count)?);
        match (1..=count).contains(&index) {
            true => Ok(Self::Part(Shard { index, count })),
            false => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str) -> Shard {
        match text.parse() {
            Ok(Wanted::Part(shard)) => shard,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn each_job_is_in_exactly_one_part() {
        for count in 1..=7 {
            let parts: Vec<_> = (1..=count)
                .map(|index| part(&format!("{index}/{count}")))
                .collect();
            for number in 1..=100 {
                assert_eq!(parts.iter().filter(|part| part.contains(number)).count(), 1);
            }
            for jobs in 0..=30 {
                for part in &parts {
                    let share = (1..=jobs).filter(|number| part.contains(*number)).count() as u64;
                    assert_eq!(part.count_in(jobs), share, "{part} of {jobs}");
                }
            }
        }
    }

    #[test]
    fn the_number_of_parts_may_be_u64_max() {
        let max = u64::MAX;
        assert_eq!(part(&format!("{max}/{max}")).count_in(1000), 0);
        assert_eq!(part(&format!("1/{max}")).count_in(max), 1);
        assert_eq!(part("1/1").count_in(max), max);
    }

    #[test]
    fn invalid_shards_are_refused() {
        for text in ["", "1", "0/3", "4/3", "1/0", "a/b", "1/2/3", "-1/2"] {
            text.parse::<Wanted>().expect_err(text);
        }
    }

    #[test]
    fn launcher_indices_start_at_their_documented_base() {
        let parse = |pairs: &'static [(&'static str, &'static str)]| {
            Shard::from_variables(|name| {
                pairs
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            })
        };
        let shard = |pairs| {
            parse(pairs)
                .map(|(shard, _)| shard.to_string())
                .map_err(|error| error.to_string())
        };
        // Slurm comes first, but selects nothing in a batch script that is not of an array.
        let (slurm, ci) = (
            [("SLURM_PROCID", "1"), ("SLURM_NTASKS", "4")],
            [("CI_NODE_INDEX", "3"), ("CI_NODE_TOTAL", "3")],
        );
        let both: &[_] = Vec::leak([slurm, ci].concat());
        assert_eq!(shard(both), Ok("2/4".into()));
        let script: &[_] = Vec::leak([[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")], ci].concat());
        assert_eq!(shard(script), Ok("3/3".into()));
        assert_eq!(
            shard(&[("CI_NODE_INDEX", "4"), ("CI_NODE_TOTAL", "4")]),
            Ok("4/4".into())
        );
        assert_eq!(
            shard(&[("JOB_COMPLETION_INDEX", "2"), ("EXITRING_SHARD_COUNT", "3")]),
            Ok("3/3".into())
        );
        assert_eq!(shard(&[("CI_NODE_INDEX", "2")]), Ok("1/1".into()));
        assert_eq!(shard(&[]), Ok("1/1".into()));
        parse(&[("JOB_COMPLETION_INDEX", "2")]).expect_err("of how many?");
        parse(&[("CI_NODE_INDEX", "0"), ("CI_NODE_TOTAL", "4")]).expect_err("counts from 1");
        parse(&[("SLURM_PROCID", "x"), ("SLURM_NTASKS", "4")]).expect_err("no number");
    }
}
