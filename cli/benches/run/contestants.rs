//! The programs that are compared, and how each runs the same jobs.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::nextest::EmptyTests;

/// The program that each job executes.
pub(crate) const PROGRAM: &str = "/bin/true";
/// GNU parallel starts a tenth of the jobs of the others a second, and gets so many fewer.
const PARALLEL_PART: usize = 10;

/// A program that runs jobs.
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) jobs: usize,
    /// The least ratio of its jobs a second to those of `exitring run` at which the project aims.
    pub(crate) target: Option<f64>,
    program: PathBuf,
    arguments: Vec<String>,
    /// The file that is standard input.
    list: Option<PathBuf>,
    /// A file that must not exist when it starts.
    pub(crate) creates: Option<PathBuf>,
}

impl Contestant {
    fn new(name: impl Into<String>, jobs: usize, program: &Path, arguments: &[&str]) -> Self {
        Self {
            name: name.into(),
            jobs,
            target: None,
            program: program.into(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            list: None,
            creates: None,
        }
    }

    /// `exitring run` with options, which reads the list.
    pub(crate) fn exitring_run(
        exitring: &Path,
        options: &[&str],
        jobs: usize,
        at_once: &str,
        list: &Path,
    ) -> Self {
        let name = ["exitring", "run"].iter().chain(options);
        let name = name.copied().collect::<Vec<_>>().join(" ");
        let arguments = [&["run", "-q", "-j", at_once], options].concat();
        Self::new(name, jobs, exitring, &arguments).reading(list.to_owned())
    }

    /// Threads that run one program again and again.
    fn floor(threads: usize, jobs: usize, command: &[&str]) -> Self {
        let this = std::env::current_exe().expect("the path of this program is known");
        let (in_threads, of_jobs) = (threads.to_string(), jobs.to_string());
        let arguments = [&["--floor", &in_threads, &of_jobs], command].concat();
        let name = format!("posix_spawn and waitpid in {threads} threads");
        Self::new(name, jobs, &this, &arguments)
    }

    fn reading(mut self, list: PathBuf) -> Self {
        self.list = Some(list);
        self
    }

    /// The command that runs all jobs once.
    pub(crate) fn command(&self) -> Command {
        if let Some(file) = &self.creates {
            let _ = fs::remove_file(file);
        }
        let mut command = Command::new(&self.program);
        let stdin = self.list.as_ref().map_or_else(Stdio::null, |list| {
            File::open(list).expect("the list can be read").into()
        });
        command.args(&self.arguments).stdin(stdin);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// What is compared, and what is absent and why. One of the contestants is `exitring run` without
/// options.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) absent: Vec<String>,
}

/// The measured binary of this package, and another build to compare it with.
pub(crate) struct Builds {
    pub(crate) exitring: PathBuf,
    pub(crate) against: Option<PathBuf>,
}

impl Builds {
    fn each(&self) -> impl Iterator<Item = (&Path, &str)> {
        let against = self.against.as_deref().map(|path| (path, " (other build)"));
        [(self.exitring.as_path(), "")].into_iter().chain(against)
    }
}

/// The contestants that run [`PROGRAM`].
pub(crate) fn of_program(builds: &Builds, jobs: usize, at_once: usize, dir: &Path) -> Table {
    let mut table = Table::default();
    let at_once_text = at_once.to_string();
    let at_once_text = at_once_text.as_str();
    for threads in [at_once, 4] {
        table
            .contestants
            .push(Contestant::floor(threads, jobs, &[PROGRAM]));
        if at_once == 4 {
            break;
        }
    }
    // The floor with as many threads comes first, then `exitring run`.
    let second_floor = table.contestants.split_off(1);
    let list = write_list(dir, jobs);
    for options in [
        &[][..],
        &["--discard"],
        &["--inherit"],
        &["--output", "jsonl"],
    ] {
        for (exitring, build) in builds.each() {
            let mut contestant =
                Contestant::exitring_run(exitring, options, jobs, at_once_text, &list);
            contestant.name += build;
            table.contestants.push(contestant);
        }
    }
    table.contestants.extend(second_floor);
    let xargs = ["-P", at_once_text, "-n", "1", PROGRAM];
    let numbers = dir.join("numbers");
    let lines: String = (0..jobs).map(|number| format!("{number}\n")).collect();
    fs::write(&numbers, lines).expect("the temporary directory is writable");
    table.push_if_installed("xargs", "findutils", |path| {
        Contestant::new(format!("xargs -P {at_once} -n 1"), jobs, path, &xargs).reading(numbers)
    });
    table.push_if_installed("parallel", "parallel", |path| {
        let jobs = (jobs / PARALLEL_PART).max(1);
        let arguments = ["--will-cite", "-j", at_once_text];
        Contestant::new("GNU parallel", jobs, path, &arguments).reading(write_list(dir, jobs))
    });
    table
}

/// The contestants that run empty tests.
pub(crate) fn of_tests(builds: &Builds, at_once: usize, tests: &EmptyTests) -> Table {
    let mut table = Table::default();
    let count = tests.names.len();
    // Each test takes the same time.
    let binary = tests.binary.to_str().expect("the path is UTF-8");
    let first = tests.names.first().map_or("", String::as_str);
    let floor = Contestant::floor(at_once, count, &[binary, "--exact", first]);
    let at_once = at_once.to_string();
    let list = tests.dir().join("list");
    let lines = tests
        .names
        .iter()
        .map(|name| format!("{binary} --exact {name}\n"));
    fs::write(&list, lines.collect::<String>()).expect("the temporary directory is writable");
    let manifest = tests.dir().join("Cargo.toml");
    let manifest = manifest.to_str().expect("the path is UTF-8");
    let arguments = [
        &["nextest", "run", "--offline", "--manifest-path", manifest][..],
        &["-j", &at_once],
    ];
    let nextest = Path::new("cargo");
    table.contestants.push(Contestant::new(
        "cargo nextest run",
        count,
        nextest,
        &arguments.concat(),
    ));
    for options in [&[][..], &["--discard"]] {
        for (exitring, build) in builds.each() {
            let mut contestant =
                Contestant::exitring_run(exitring, options, count, &at_once, &list);
            contestant.name += build;
            table.contestants.push(contestant);
        }
    }
    table.contestants.push(floor);
    table
}

impl Table {
    fn push_if_installed(
        &mut self,
        program: &str,
        package: &str,
        contestant: impl FnOnce(&Path) -> Contestant,
    ) {
        match find_program(program) {
            Some(path) => self.contestants.push(contestant(&path)),
            None => self.absent.push(format!(
                "{program}: not installed (apt-get install {package})"
            )),
        }
    }
}

/// The path of a program in PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut paths = std::env::split_paths(&path).map(|directory| directory.join(name));
    paths.find(|path| path.is_file())
}

/// Writes a list that runs [`PROGRAM`] so often.
pub(crate) fn write_list(dir: &Path, jobs: usize) -> PathBuf {
    let path = dir.join(format!("list-{jobs}"));
    let mut file = File::create(&path).expect("the temporary directory is writable");
    let lines = format!("{PROGRAM}\n").repeat(jobs);
    file.write_all(lines.as_bytes())
        .expect("the temporary directory is writable");
    path
}
