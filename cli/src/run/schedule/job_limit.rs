//! `-j`: how many jobs run at a time.

use std::str::FromStr;
use std::thread;

/// More processes than the kernel can have at a time (`kernel.pid_max`).
const JOBS_MAX: u64 = 1 << 22;

/// How many jobs run at a time: at least one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct JobLimit(u32);

impl JobLimit {
    pub(crate) fn get(self) -> usize {
        self.0 as usize
    }
}

/// One job for each processor that this process may use.
impl Default for JobLimit {
    fn default() -> Self {
        Self(thread::available_parallelism().map_or(1, |count| count.get() as u32))
    }
}

impl FromStr for JobLimit {
    type Err = String;

    /// The forms of GNU parallel, except for 0, which means as many as possible there. A part of a
    /// job counts as one.
    fn from_str(text: &str) -> Result<Self, String> {
        let processors = u64::from(Self::default().0);
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<u64>().ok(),
            false => None,
        };
        let jobs = if let Some(percent) = text.strip_suffix('%') {
            number(percent).map(|percent| processors.saturating_mul(percent).div_ceil(100))
        } else if let Some(more) = text.strip_prefix('+') {
            number(more).map(|more| processors.saturating_add(more))
        } else if let Some(fewer) = text.strip_prefix('-') {
            number(fewer).map(|fewer| processors.saturating_sub(fewer).max(1))
        } else {
            number(text)
        };
        match jobs {
            Some(jobs @ 1..=JOBS_MAX) => Ok(Self(jobs as u32)),
            _ => Err(format!(
                "N is a number from 1 to {JOBS_MAX}, a percentage of the processors (200%), or a number more or \
                 fewer than them (+1, -1)"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers_or_depend_on_the_processors() {
        let JobLimit(processors) = JobLimit::default();
        let parse = |text: &str| text.parse().map(|JobLimit(jobs)| jobs);
        assert_eq!(parse("1"), Ok(1));
        assert_eq!(parse("4194304"), Ok(4_194_304));
        assert_eq!(parse("100%"), Ok(processors));
        assert_eq!(parse("1%"), Ok(processors.div_ceil(100)));
        assert_eq!(parse("250%"), Ok((processors * 5).div_ceil(2)));
        assert_eq!(parse("+3"), Ok(processors + 3));
        assert_eq!(parse("-1"), Ok((processors - 1).max(1)));
        assert_eq!(parse("-100000"), Ok(1));
        for text in [
            "",
            "0",
            "%",
            "+",
            "-",
            "x",
            "1.5",
            "+1%",
            "++1",
            "--1",
            " 1",
            "1 ",
            "4194305",
            "99999999999999999999",
            "99999999999999999999%",
            "+18446744073709551615",
        ] {
            parse(text).expect_err(text);
        }
    }
}
