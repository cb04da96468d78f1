//! The options of containment.

use clap::Args;
use exitring::CgroupLimits;

use crate::size;

/// What each job may have, together with all that it starts.
#[derive(Debug, Args)]
pub(crate) struct ContainOptions {
    /// Run each job in a cgroup, and leave nothing running
    ///
    /// All that a job starts stays in the cgroup of the job, also a daemon. What is left there when
    /// the job has ended is killed and reported. It needs a delegated cgroup v2, as in: systemd-run
    /// --user --scope -p Delegate=yes exitring run --contain
    #[arg(long)]
    contain: bool,

    /// A job fails if it leaves processes behind
    ///
    /// Implies --contain.
    #[arg(long, help_heading = "Containment", hide_short_help = true)]
    pub(crate) fail_leaky: bool,

    /// Limit the memory of each job, as in 512M or 2G
    ///
    /// The limit is that of a job and all that it starts together. A job that is out of memory is
    /// killed and fails. Implies --contain.
    #[arg(long, help_heading = "Containment", hide_short_help = true, value_name = "SIZE", value_parser = size::parse_positive)]
    memory: Option<u64>,

    /// Limit the processes and threads of each job
    ///
    /// Beyond it a fork fails. Implies --contain.
    #[arg(long, help_heading = "Containment", hide_short_help = true, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pids: Option<u64>,

    /// Limit the processor time of each job, as in 0.5
    ///
    /// The value is a number of processors. Implies --contain.
    #[arg(long, help_heading = "Containment", hide_short_help = true, value_name = "N", value_parser = parse_cpus)]
    cpus: Option<f64>,
}

impl ContainOptions {
    /// The limits of each job; `None` if jobs are not contained.
    pub(super) fn limits(&self) -> Option<CgroupLimits> {
        let mut limits = CgroupLimits::new();
        if let Some(bytes) = self.memory {
            limits = limits.memory(bytes);
        }
        if let Some(count) = self.pids {
            limits = limits.processes(count);
        }
        if let Some(count) = self.cpus {
            limits = limits.cpus(count);
        }
        let wanted = self.contain || self.fail_leaky || limits != CgroupLimits::new();
        wanted.then_some(limits)
    }
}

/// The kernel's minimum of `cpu.max` is 1 ms of 100 ms. Its maximum is far above any machine.
fn parse_cpus(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(count) if (0.01..=65_536.0).contains(&count) => Ok(count),
        _ => Err("expected a number of processors, at least 0.01, such as 0.5 or 2".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        contain: ContainOptions,
    }

    fn limits(words: &[&str]) -> Option<CgroupLimits> {
        let words = ["exitring"].iter().chain(words);
        let line = <Line as clap::Parser>::try_parse_from(words).expect("valid options");
        line.contain.limits()
    }

    #[test]
    fn a_limit_implies_containment() {
        assert_eq!(limits(&[]), None);
        assert_eq!(limits(&["--contain"]), Some(CgroupLimits::new()));
        assert_eq!(limits(&["--fail-leaky"]), Some(CgroupLimits::new()));
        assert_eq!(
            limits(&["--memory", "512M", "--pids", "10", "--cpus", "1.5"]),
            Some(
                CgroupLimits::new()
                    .memory(512 << 20)
                    .processes(10)
                    .cpus(1.5)
            )
        );
    }

    #[test]
    fn processors_are_a_positive_number() {
        for text in ["", "0", "-1", "nan", "inf", "100%", "0.001", "1e9"] {
            parse_cpus(text).expect_err(text);
        }
        assert_eq!(parse_cpus("0.5"), Ok(0.5));
    }
}
