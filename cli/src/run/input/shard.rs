//! One part of the list, so that several machines share it without speaking to each other.

use std::env;
use std::fmt;
use std::str::FromStr;

use crate::failure::Failure;

/// Part `index` of `count`: each job belongs to exactly one, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    /// From 1.
    index: u64,
    count: u64,
}

/// What `--shard` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// This part.
    Part(Shard),
    /// What the environment says.
    Auto,
}

/// An engine that starts the same command on several machines and tells each which one it is.
struct Engine {
    name: &'static str,
    index: &'static str,
    /// What its first is called.
    first: u64,
    count: &'static str,
}

/// As the option `--shard`.
const VARIABLE: &str = "EXITRING_SHARD";
/// In it: all of the list.
const NONE: &str = "none";

const ENGINES: [Engine; 5] = [
    Engine {
        name: "Slurm",
        index: "SLURM_PROCID",
        first: 0,
        count: "SLURM_NTASKS",
    },
    Engine {
        name: "Kubernetes",
        index: "JOB_COMPLETION_INDEX",
        first: 0,
        count: "EXITRING_SHARD_COUNT",
    },
    Engine {
        name: "CI",
        index: "CI_NODE_INDEX",
        first: 1,
        count: "CI_NODE_TOTAL",
    },
    Engine {
        name: "CircleCI",
        index: "CIRCLE_NODE_INDEX",
        first: 0,
        count: "CIRCLE_NODE_TOTAL",
    },
    Engine {
        name: "Buildkite",
        index: "BUILDKITE_PARALLEL_JOB",
        first: 0,
        count: "BUILDKITE_PARALLEL_JOB_COUNT",
    },
];

impl Shard {
    pub(crate) const WHOLE: Self = Self { index: 1, count: 1 };

    pub(crate) fn has(self, number: u64) -> bool {
        (number - 1) % self.count == self.index - 1
    }

    /// How many of the first `numbers` jobs are in it.
    pub(crate) fn share_of(self, numbers: u64) -> u64 {
        numbers.saturating_sub(self.index - 1).div_ceil(self.count)
    }

    /// What the environment says, and who said it.
    pub(crate) fn from_environment() -> Result<(Self, Option<String>), Failure> {
        Self::told_by(variable)
    }

    fn told_by(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, Option<String>), Failure> {
        for Engine {
            name,
            index,
            first,
            count,
        } in ENGINES
        {
            let Some(told_index) = variable(index) else {
                continue;
            };
            let bad = |what: &str| {
                Failure::usage(format!("{name} says which part of the list is to be run here by {index}={told_index}, {what}"))
                    .remedy(format!("set {count} to the number of parts, or choose by --shard i/n; --shard none runs all"))
            };
            let Some(told_count) = variable(count) else {
                // Without a count that is nothing, except where a part is what is meant.
                match name {
                    "Kubernetes" => {
                        return Err(bad(&format!("but {count}, of how many, is not set")));
                    }
                    _ => continue,
                }
            };
            let number = |text: &str| text.trim().parse::<u64>().ok();
            let (Some(i), Some(n)) = (number(&told_index), number(&told_count)) else {
                return Err(bad(&format!("{count}={told_count}, and one is no number")));
            };
            if i < first || i - first >= n {
                return Err(bad(&format!(
                    "{count}={told_count}, and there is no such part"
                )));
            }
            let shard = Self {
                index: i - first + 1,
                count: n,
            };
            let who =
                (n > 1).then(|| format!("{name} ({index}={told_index}, {count}={told_count})"));
            return Ok((shard, who));
        }
        Ok((Self::WHOLE, None))
    }
}

impl Wanted {
    /// What is asked for where no option says it.
    pub(crate) fn from_environment() -> Result<Self, Failure> {
        match variable(VARIABLE) {
            None => Ok(Self::Auto),
            Some(text) => text
                .parse()
                .map_err(|error| Failure::usage(format!("{VARIABLE}: {error}"))),
        }
    }
}

/// What the environment says of shards is said to us, and a job that runs `exitring run` has a list of its own: it would take
/// a share of that. To be called before there is another thread.
pub(crate) fn keep_from_jobs() {
    // SAFETY: no other thread is there that could read or change the environment.
    unsafe { env::set_var(VARIABLE, NONE) };
}

/// Of the environment. One that is empty is none: it is how many a script unsets them.
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
            format!("a shard is i/n with i from 1 to n, as in 2/8; or none, or auto: not {text:?}")
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
                assert_eq!(parts.iter().filter(|part| part.has(number)).count(), 1);
            }
            for jobs in 0..=30 {
                for part in &parts {
                    let share = (1..=jobs).filter(|number| part.has(*number)).count() as u64;
                    assert_eq!(part.share_of(jobs), share, "{part} of {jobs}");
                }
            }
        }
    }

    #[test]
    fn there_may_be_as_many_parts_as_there_are_numbers() {
        let max = u64::MAX;
        assert_eq!(part(&format!("{max}/{max}")).share_of(1000), 0);
        assert_eq!(part(&format!("1/{max}")).share_of(max), 1);
        assert_eq!(part("1/1").share_of(max), max);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "1", "0/3", "4/3", "1/0", "a/b", "1/2/3", "-1/2"] {
            text.parse::<Wanted>().expect_err(text);
        }
    }

    #[test]
    fn engines_count_from_where_they_do() {
        let told = |pairs: &'static [(&'static str, &'static str)]| {
            Shard::told_by(|name| {
                pairs
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            })
        };
        let shard = |pairs| {
            told(pairs)
                .map(|(shard, _)| shard.to_string())
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            shard(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")]),
            Ok("1/4".into())
        );
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
        told(&[("JOB_COMPLETION_INDEX", "2")]).expect_err("of how many?");
        told(&[("CI_NODE_INDEX", "0"), ("CI_NODE_TOTAL", "4")]).expect_err("counts from 1");
        told(&[("SLURM_PROCID", "x"), ("SLURM_NTASKS", "4")]).expect_err("no number");
    }
}
