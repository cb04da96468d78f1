//! The findings as text, in colour.

use std::fmt::{self, Display, Formatter};

use anstyle::{AnsiColor, Style};

use super::findings::{Findings, Probe, descriptors_per_job, number};

impl Display for Findings {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        row(f, "exitring", &self.version)?;
        row(f, "kernel", &self.kernel)?;
        row(f, "orphans", &self.orphans)?;
        let backend = self.backend.unwrap_or("none: no process can be watched");
        row(f, "backend", &backend)?;
        if let Some(why) = &self.fallback {
            row(f, "", &format!("because {why}"))?;
        }
        row(f, "io_uring", &availability(&self.io_uring))?;
        row(f, "pidfds", &availability(&self.pidfd))?;
        row(f, "status once reaped", &availability(&self.watch_reaped))?;
        row(f, "cgroups", &availability(&self.cgroups.probe))?;
        if let Some(path) = &self.cgroups.path {
            row(f, "", path)?;
            row(f, "cgroup limits", &self.cgroups.limits())?;
        }
        let (soft, hard) = (number(self.descriptors_soft), number(self.descriptors_hard));
        let open = self.descriptors_open;
        let descriptors = format!("{open} open; soft limit {soft}, hard limit {hard}");
        row(f, "descriptors", &descriptors)?;
        for (index, limit) in self.process_limits.iter().enumerate() {
            let name = if index == 0 { "process limits" } else { "" };
            let in_use = format!("{}: {} of {} in use", limit.name, limit.used, limit.max);
            row(f, name, &in_use)?;
        }
        let processes = bound(self.processes_at_a_time, &self.processes_bounded_by);
        row(f, "processes at a time", &processes)?;
        let watches = bound(self.watches_at_a_time, &self.watches_bounded_by);
        row(f, "watches at a time", &watches)?;
        let captured = number(self.captured_jobs_at_a_time);
        let each = descriptors_per_job(self.backend);
        let jobs = format!("{captured} with captured output, at {each} descriptors each");
        row(f, "jobs at a time", &jobs)?;
        for (index, remedy) in self.remedies.iter().enumerate() {
            row(f, if index == 0 { "remedies" } else { "" }, remedy)?;
        }
        Ok(())
    }
}

fn row(f: &mut Formatter<'_>, name: &str, value: &dyn Display) -> fmt::Result {
    let bold = Style::new().bold();
    writeln!(f, "{bold}{name:<20}{bold:#} {value}")
}

fn availability(probe: &Probe) -> String {
    let good = AnsiColor::Green.on_default();
    let bad = AnsiColor::Yellow.on_default();
    match &probe.why_not {
        None => format!("{good}available{good:#}"),
        Some(why) => format!("{bad}not available{bad:#}: {why}"),
    }
}

fn bound(count: Option<u64>, by: &Option<String>) -> String {
    match by {
        Some(by) => format!("{} ({by})", number(count)),
        None => number(count),
    }
}
