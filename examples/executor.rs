//! A small batch executor on tokio: reads one shell command per line from a file or from standard
//! input, and runs up to N at a time.
//!
//! `cargo run -p exitring --features tokio --example executor -- COMMANDS [N]`
//!
//! - Commands are started by threads of the watcher, so no thread of the runtime blocks in an exec.
//! - Each command has limits, a low priority, and a session of its own. Where a cgroup is delegated,
//!   each runs in one of its own, and nothing that it starts survives it. Elsewhere the process
//!   group is the best there is.
//! - A command that runs for a minute gets SIGTERM, and SIGKILL five seconds later.
//! - Output is read while the command runs, up to a limit, and printed when it has ended.
//! - A shortage of processes or descriptors delays a command instead of failing it.
//! - Ctrl-C drops the futures of all commands, which kills them.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use exitring::{
    Cgroup, CgroupLimits, CgroupPool, Command, Environment, Outcome, Output, Resource, Stdio,
    Watcher,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

const TIMEOUT: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(5);
const OUTPUT_MAX: usize = 1 << 20;
const MEMORY_MAX: u64 = 1 << 30;
const PROCESSES_MAX: u64 = 200;
const OPEN_FILES_MAX: u64 = 1024;
/// How long a command waits for a resource that ran out.
const PAUSE: Duration = Duration::from_millis(50);

type Failure = Box<dyn Error + Send + Sync>;
/// The number of a line, and the output of its command.
type Ended = (usize, Result<Output, Failure>);

/// What all commands share.
struct Executor {
    watcher: Watcher,
    /// `None` where no cgroup is delegated to this program.
    cgroups: Option<CgroupPool>,
    environment: Environment,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let commands: Box<dyn BufRead> = match arguments.next() {
        Some(file) => Box::new(BufReader::new(File::open(file)?)),
        None => Box::new(io::stdin().lock()),
    };
    let at_once = arguments.next().map_or(Ok(8), |number| number.parse())?;

    let executor = Arc::new(Executor::new()?);
    let permits = Arc::new(Semaphore::new(at_once));
    let (mut running, mut tally) = (JoinSet::new(), Tally::default());
    for (index, line) in commands.lines().enumerate() {
        let (executor, line) = (Arc::clone(&executor), line?);
        // While as many run as may, this waits for an end, or for Ctrl-C.
        let permit = loop {
            tokio::select! {
                permit = Arc::clone(&permits).acquire_owned() => break permit?,
                Some(ended) = running.join_next() => tally.add(ended?),
                _ = tokio::signal::ctrl_c() => return Ok(interrupted(running).await),
            }
        };
        running.spawn(async move { (index + 1, executor.run(&line, permit).await) });
    }
    while !running.is_empty() {
        tokio::select! {
            Some(ended) = running.join_next() => tally.add(ended?),
            _ = tokio::signal::ctrl_c() => return Ok(interrupted(running).await),
        }
    }
    println!("{} succeeded, {} failed", tally.succeeded, tally.failed);
    Ok(match tally.failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Kills all commands, by dropping their futures.
async fn interrupted(mut running: JoinSet<Ended>) -> ExitCode {
    running.shutdown().await;
    ExitCode::from(130)
}

#[derive(Default)]
struct Tally {
    succeeded: u64,
    failed: u64,
}

impl Tally {
    fn add(&mut self, (number, output): Ended) {
        match report(number, &output) {
            true => self.succeeded += 1,
            false => self.failed += 1,
        }
    }
}

impl Executor {
    fn new() -> Result<Self, Box<dyn Error>> {
        let limits = CgroupLimits::new()
            .memory(MEMORY_MAX)
            .processes(PROCESSES_MAX);
        let group = Cgroup::find();
        // Without the controllers for the limits, the groups still contain what commands start.
        let cgroups = group.and_then(|group| {
            let limited = group.pool(&limits);
            limited.or_else(|_| group.pool(&CgroupLimits::new()))
        });
        if let Err(error) = &cgroups {
            eprintln!("commands are not contained: {error}");
        }
        Ok(Self {
            // Callbacks are not used.
            watcher: Watcher::builder().workers(0).starters(4).build()?,
            cgroups: cgroups.ok(),
            environment: Environment::current(),
        })
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .environment(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .session()
            .nice(10)
            .soft_limit(Resource::OpenFiles, Some(OPEN_FILES_MAX))
            .limit(Resource::Core, Some(0), Some(0))
            .no_new_privs();
        if let Some(cgroups) = &self.cgroups {
            command.cgroup(cgroups).kill_leftovers();
        }
        command
    }

    /// Runs one command to its end.
    async fn run(&self, line: &str, _permit: OwnedSemaphorePermit) -> Result<Output, Failure> {
        let child = loop {
            match self.watcher.spawn_async(self.command(line)).await {
                Ok(child) => break child,
                Err(error) if error.is_throttling() => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        };
        child.deadline(TIMEOUT, GRACE)?;
        // If this future is dropped, the command is killed.
        Ok(child.output_async(OUTPUT_MAX).await?)
    }
}

/// Prints what a command wrote and how it ended. Returns whether it succeeded.
fn report(number: usize, output: &Result<Output, Failure>) -> bool {
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            println!("line {number}: {error}");
            return false;
        }
    };
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    print!("{}{}", text[0], text[1]);
    if output.discarded > 0 {
        println!("line {number}: {} more bytes of output", output.discarded);
    }
    let exit = &output.exit;
    if let Some(cgroup) = exit.cgroup() {
        if cgroup.leftover_count() > 0 {
            println!(
                "line {number}: killed {} processes that it left",
                cgroup.leftover_count()
            );
        }
        if cgroup.oom_kills().is_some_and(|kills| kills > 0) {
            println!("line {number}: used more than {MEMORY_MAX} bytes of memory");
        }
    }
    match exit.outcome() {
        Outcome::Exited(0) => return true,
        Outcome::Signaled { .. } if exit.by_deadline() => println!("line {number}: took too long"),
        outcome => println!("line {number}: {outcome}"),
    }
    false
}
