//! The report of a run as JUnit XML (`--junit`), which CI services and editors read.
//!
//! Memory does not grow with the list: each test case is written to an unlinked file beside the
//! report as its job ends. At the end the report is put together in a temporary file, which then
//! takes the name of the report, so a reader never finds a part of one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use rustix::fs::Access;

use super::junit_text::name_of;
use crate::failure::Failure;

/// What a test case begins with. Text and attributes cannot contain it, because `<` is escaped
/// there.
const CASE_BEGINS: &str = "<testcase";
const SUITE_ENDS: &str = "</testsuite>";
/// The mode of a new file, of which the umask removes some bits.
const MODE: u32 = 0o666;

/// A report in the making.
pub(crate) struct JunitReport {
    path: PathBuf,
    /// The test cases so far.
    cases: BufWriter<File>,
    suite: String,
    tests: usize,
    failures: usize,
    errors: usize,
    start: Instant,
    start_time: Timestamp,
}

impl JunitReport {
    /// Begins a report. Nothing has this path before the end of the run, but the path and the
    /// directory are checked now rather than after an hour.
    pub(crate) fn create(path: &Path, suite: &[u8]) -> Result<Self, Failure> {
        let unusable = |error: io::Error| {
            let cause = format!("cannot write the report {}: {error}", path.display());
            Failure::usage(cause)
                .remedy("give --junit a file in a directory that exists and is writable")
        };
        // The report replaces the file that a symbolic link points to, and not the link.
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The directory of this process changes with --cwd.
                std::path::absolute(path).map_err(unusable)?
            }
            Err(error) => return Err(unusable(error)),
        };
        if let Ok(metadata) = fs::metadata(&path) {
            if !metadata.is_file() {
                let cause = format!(
                    "the report {} exists and is not a regular file",
                    path.display()
                );
                return Err(Failure::usage(cause).remedy("give --junit the name of a file"));
            }
            rustix::fs::access(&path, Access::WRITE_OK).map_err(|error| unusable(error.into()))?;
        }
        if path.file_name().is_none() {
            return Err(unusable(io::ErrorKind::IsADirectory.into()));
        }
        let cases = tempfile::tempfile_in(directory(&path)).map_err(unusable)?;
        Ok(Self {
            path,
            cases: BufWriter::new(cases),
            suite: name_of(suite),
            tests: 0,
            failures: 0,
            errors: 0,
            start: Instant::now(),
            start_time: Timestamp::now(),
        })
    }

    /// The name of the suite, which is also the class of its test cases.
    pub(crate) fn suite(&self) -> &str {
        &self.suite
    }

    /// Adds the test case of a job.
    pub(crate) fn add(&mut self, case: TestCase) -> Result<(), Failure> {
        self.tests += 1;
        match case.status {
            TestCaseStatus::NonSuccess { kind, .. } => match kind {
                NonSuccessKind::Failure => self.failures += 1,
                NonSuccessKind::Error => self.errors += 1,
            },
            TestCaseStatus::Success { .. } | TestCaseStatus::Skipped { .. } => {}
        }
        // The crate serializes whole reports. This one is small, and has the case in it.
        let text = self
            .serialize(case, false)
            .map_err(|error| self.failed(&error))?;
        let begin = text.find(CASE_BEGINS).unwrap_or(text.len());
        let end = text.rfind(SUITE_ENDS).unwrap_or(text.len());
        let case = text.get(begin..end).unwrap_or_default();
        let written = self.cases.write_all(b"\n        ");
        let written = written.and_then(|()| self.cases.write_all(case.trim_end().as_bytes()));
        written.map_err(|error| self.failed(&error))
    }

    /// Writes the report under its name.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.write().map_err(|error| self.failed(&error))
    }

    fn write(&mut self) -> io::Result<()> {
        self.cases.flush()?;
        let frame = TestCase::new("", TestCaseStatus::success());
        let frame = self.serialize(frame, true)?;
        let (head, rest) = frame.split_once(CASE_BEGINS).unwrap_or((&frame, ""));
        let (_, tail) = rest.split_once("/>").unwrap_or_default();
        let mut file = tempfile::Builder::new()
            .prefix(".exitring-junit-")
            .permissions(fs::Permissions::from_mode(MODE))
            .tempfile_in(directory(&self.path))?;
        let cases = self.cases.get_mut();
        cases.rewind()?;
        file.write_all(head.trim_end().as_bytes())?;
        io::copy(cases, &mut file)?;
        file.write_all(tail.as_bytes())?;
        file.persist(&self.path)?;
        Ok(())
    }

    /// A report with this case only, and the counts and times of all cases.
    fn serialize(&self, case: TestCase, timed: bool) -> io::Result<String> {
        let mut suite = TestSuite::new(&self.suite);
        suite.test_cases.push(case);
        (suite.tests, suite.failures, suite.errors) = (self.tests, self.failures, self.errors);
        let mut report = Report::new("exitring run");
        if timed {
            suite.set_time(self.start.elapsed());
            suite.timestamp = self.start_time.to_string().parse().ok();
            (report.time, report.timestamp) = (suite.time, suite.timestamp);
        }
        report.add_test_suite(suite);
        report.to_string().map_err(io::Error::other)
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::writing(&format!("the report {}", self.path.display()), error)
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
