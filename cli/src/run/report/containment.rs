//! What the cgroup of a job says about it, in the record of the job.

use exitring::Exit;
use serde::Serialize;

use super::record::EndCause;

/// Fields of the record of a contained job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "queue", derive(serde::Deserialize))]
pub(crate) struct Containment {
    /// The job left processes behind when it ended by itself.
    pub(crate) leaky: bool,
    /// How many; 0 if it was ended by the run, which ends all of its processes.
    pub(crate) leftover_processes: usize,
    /// The kernel killed a process of the job because memory ran out.
    pub(crate) out_of_memory: bool,
    /// Known with `--memory`, from Linux 5.19 on.
    peak_memory_bytes: Option<u64>,
}

impl Containment {
    /// `None` for a job without a cgroup of its own.
    pub(crate) fn of(exit: &Exit, cause: EndCause) -> Option<Self> {
        let report = exit.cgroup()?;
        let leftover = match cause {
            EndCause::Itself => report.leftover_count(),
            _ => 0,
        };
        Some(Self::new(
            leftover,
            report.oom_kills().unwrap_or(0),
            report.peak_memory(),
        ))
    }

    fn new(leftover: usize, oom_kills: u64, peak_memory_bytes: Option<u64>) -> Self {
        Self {
            leaky: leftover > 0,
            leftover_processes: leftover,
            out_of_memory: oom_kills > 0,
            peak_memory_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::to_json_line;
    use super::super::record::{OutcomeKind, Record};
    use super::super::summary::Summary;
    use super::*;
    use crate::run::command_spec::CommandSpec;
    use crate::run::job::{Job, StartTime};

    fn with_record(containment: Containment, check: impl FnOnce(&Record<'_>)) {
        let job = Job {
            number: 1,
            attempt: 1,
            slot: 1,
            repeat: 0,
            slow: false,
            command: CommandSpec::Line("a".into()),
            details: None,
        };
        let mut record = Record::of_left_running(&job, StartTime::now(), "why".into());
        record.interrupted = false;
        record.containment = Some(containment);
        assert_eq!(record.outcome, OutcomeKind::Unknown);
        check(&record);
    }

    #[test]
    fn a_job_that_is_out_of_memory_is_counted_and_described_as_such() {
        with_record(Containment::new(0, 2, Some(4096)), |record| {
            assert_eq!(record.description(), "out of memory, why");
            let json = String::from_utf8(to_json_line(record)).expect("UTF-8");
            assert!(json.starts_with(r#"{"type":"job","job":1,"#), "{json}");
            assert!(
                json.contains(r#""out_of_memory":true,"peak_memory_bytes":4096"#),
                "{json}"
            );
            assert!(
                json.contains(r#""leaky":false,"leftover_processes":0"#),
                "{json}"
            );
            let mut summary = Summary::new();
            summary.add(record);
            let text = summary.render(0, 0);
            assert!(text.contains("1 of them out of memory"), "{text}");
            assert!(!text.contains("left processes behind"), "{text}");
        });
    }

    #[test]
    fn a_leaky_job_is_counted() {
        with_record(Containment::new(3, 0, None), |record| {
            let mut summary = Summary::new();
            summary.add(record);
            let text = summary.render(0, 0);
            assert!(text.contains("1 left processes behind"), "{text}");
        });
    }
}
