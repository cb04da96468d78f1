//! Who plays when: rounds, in each of which every contestant has its turn, in a process of its own.
//!
//! The conductor forks that process and takes its run from a pipe; it never has a child of a scenario itself, nor
//! memory, descriptors or threads that grow with what it measures.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::cli::Options;
use crate::contestants::Kind;
use crate::interrupt::{self, interrupted};
use crate::output;
use crate::preflight;
use crate::report::{Absent, Report};
use crate::run::Run;
use crate::scenarios::{Order, Scenario};
use crate::warning::Warning;
use crate::{hgrm, table};

/// The exit code of what Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// What is to be measured, and by whom.
pub(crate) struct Plan {
    name: &'static str,
    scenarios: Vec<Scenario>,
    kinds: Vec<Kind>,
    repeat: u32,
    /// Who was asked for by name is told off for what it cannot do; of all others it is noted.
    by_name: bool,
}

impl Plan {
    /// One scenario, by exitring unless others are named.
    pub(crate) fn single(scenario: Scenario, options: &Options) -> Self {
        let mut plan = Self::compare(scenario, options);
        // The service is always compared: with the library that it is made of.
        if let Scenario::Serve(_) = plan.scenarios[0] {
            if options.with.is_empty() {
                plan.kinds = vec![
                    Kind::Exitring,
                    Kind::ExitringWatch,
                    Kind::Serve,
                    Kind::ServePower,
                ];
                plan.by_name = true;
            }
            return plan;
        }
        if options.with.is_empty() {
            plan.kinds = vec![Kind::Exitring];
            plan.by_name = true;
        }
        plan.repeat = options.repeat.unwrap_or(1);
        plan
    }

    /// One scenario, by all of this language unless some are named.
    pub(crate) fn compare(scenario: Scenario, options: &Options) -> Self {
        Self {
            name: scenario.name(),
            repeat: options.repeat.unwrap_or(3),
            ..Self::scale(vec![scenario], options)
        }
    }

    /// Several sizes of one scenario.
    pub(crate) fn scale(scenarios: Vec<Scenario>, options: &Options) -> Self {
        let by_name = !options.with.is_empty();
        // Programs in other languages take long to start so many children: they come when asked.
        let all = || {
            Kind::value_variants()
                .iter()
                .copied()
                .filter(|kind| !kind.is_external() && !kind.is_service())
                .collect()
        };
        Self {
            name: "scale",
            scenarios,
            kinds: if by_name { options.with.clone() } else { all() },
            // Many runs as it is.
            repeat: options.repeat.unwrap_or(1),
            by_name: by_name && options.with.len() == 1,
        }
    }

    fn orders(&self, scenario: &Scenario, options: &Options) -> Vec<Order> {
        let order = |&kind: &Kind| Order {
            kind,
            workers: options.workers.into(),
            round: 0,
            scenario: scenario.clone(),
        };
        self.kinds.iter().map(order).collect()
    }
}

/// Makes all runs, prints and saves what they find.
pub(crate) fn conduct(plan: &Plan, options: &Options) -> Result<ExitCode> {
    for (nth, kind) in plan.kinds.iter().enumerate() {
        ensure!(
            !plan.kinds[..nth].contains(kind),
            "{} is named twice",
            kind.name()
        );
    }
    for gate in &options.fail_if {
        if let Some(kind) = gate.contestant.filter(|kind| !plan.kinds.contains(kind)) {
            bail!(
                "--fail-if {gate}: {} does not take part (--with)",
                kind.name()
            );
        }
    }
    let mut report = Report::new(plan.name, &plan.scenarios, &plan.kinds, plan.repeat);
    // Everything that can be known is known before anything starts.
    let mut orders = Vec::new();
    for scenario in &plan.scenarios {
        scenario.check()?;
        preflight::check_processes(scenario.children())?;
        let mut able = Vec::new();
        for order in plan.orders(scenario, options) {
            match why_not(&order) {
                None => able.push(order),
                Some(why) if plan.by_name => bail!("{}: {why}", order.kind.name()),
                Some(why) => report.absent.push(absent(&order, why, false)),
            }
        }
        for round in 1..=plan.repeat {
            orders.extend(able.iter().map(|order| Order {
                round,
                ..order.clone()
            }));
        }
    }
    if orders.is_empty() {
        let whys = report
            .absent
            .iter()
            .map(|absent| format!("{}: {}", absent.title, absent.why));
        bail!(
            "nobody can take part: {}",
            whys.collect::<Vec<_>>().join("; ")
        );
    }
    if let Some(path) = &options.json {
        Report::check_place(path)?;
    }
    if let Some(folder) = &options.hgrm {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("creating {}", folder.display()))?;
    }
    interrupt::remember(pass_on)?;

    let total = orders.len();
    for (nth, order) in orders.into_iter().enumerate() {
        if interrupted() {
            break;
        }
        if total > 1 {
            eprintln!("{}/{total} {}", nth + 1, description(&order));
        }
        match perform(&order) {
            Ok(run) => report.add(run),
            Err(_) if interrupted() => break,
            Err(why) if plan.by_name => return Err(why.context(order.kind.name())),
            Err(why) => report.absent.push(absent(&order, format!("{why:#}"), true)),
        }
        report.interrupted |= interrupted();
        if let Some(path) = &options.json {
            report.save(path)?;
        }
    }
    report.interrupted |= interrupted();
    if let Some(path) = &options.json {
        report.save(path)?;
    }
    output::print(&table::text(&report)?)?;
    if let Some(folder) = &options.hgrm {
        hgrm::write(&report, folder)?;
    }
    Ok(verdict(&report, options))
}

fn verdict(report: &Report, options: &Options) -> ExitCode {
    if report.interrupted {
        eprintln!("loadgen: interrupted; what there is was written");
        return ExitCode::from(INTERRUPTED);
    }
    if report.has_failures() {
        return ExitCode::from(2);
    }
    let failures = options
        .fail_if
        .iter()
        .filter_map(|gate| gate.failure(report));
    let failures: Vec<_> = failures.collect();
    for failure in &failures {
        eprintln!("loadgen: failed: {failure}");
    }
    match report.is_clean() && failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn description(order: &Order) -> String {
    let (scenario, title) = (order.scenario.name(), order.kind.title(order.workers));
    let live = order
        .scenario
        .live()
        .map_or_else(String::new, |live| format!(", {live} live"));
    format!("{scenario}{live}: {title}, round {}", order.round)
}

/// Why an order cannot be carried out by this contestant on this machine.
fn why_not(order: &Order) -> Option<String> {
    let here = || {
        preflight::check_processes(order.tasks())?;
        preflight::check_descriptors(order.descriptors())
    };
    let cannot = order.kind.cannot(&order.scenario);
    cannot.or_else(|| here().err().map(|error| format!("{error:#}")))
}

fn absent(order: &Order, why: String, failed: bool) -> Absent {
    Absent {
        contestant: order.kind,
        title: order.kind.title(order.workers),
        live: order.scenario.live(),
        why,
        failed,
    }
}

/// What the process that makes a run says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Run(Box<Run>),
    Error(String),
}

/// The process that makes a run at the moment.
static PERFORMER: Mutex<Option<Pid>> = Mutex::new(None);

/// Ctrl-C: whoever performs is to end its children and say what it has. The second time it is just to end, should
/// it hang.
fn pass_on() {
    static BEFORE: AtomicBool = AtomicBool::new(false);
    // Held, so that it is not reaped in between.
    let performer = PERFORMER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pid) = *performer {
        let again = BEFORE.swap(true, Ordering::SeqCst);
        let _ = kill_process(pid, if again { Signal::KILL } else { Signal::INT });
    }
}

fn set_performer(pid: Option<Pid>) {
    *PERFORMER.lock().unwrap_or_else(PoisonError::into_inner) = pid;
}

/// Has a run made in a process of its own.
fn perform(order: &Order) -> Result<Run> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut child = Command::new(program)
        .arg("measure")
        .arg(serde_json::to_string(order)?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A terminal's Ctrl-C comes to us alone, and goes on from here: its children are not to be hit.
        .process_group(0)
        .spawn()
        .context("starting a process for the run")?;
    set_performer(Pid::from_raw(child.id() as i32));
    if interrupted() {
        // It came before there was whom to pass it on to.
        pass_on();
    }
    let answer = listen(&mut child);
    // Not reaped yet, so the number is still its own.
    set_performer(None);
    let status = child.wait().context("waiting for the process of the run")?;
    match answer.and_then(|answer| Ok(serde_json::from_str(&answer)?)) {
        Ok(Answer::Run(run)) => Ok(*run),
        Ok(Answer::Error(why)) => bail!(why),
        Err(error) => Err(error.context(format!("the process of the run ended with {status}"))),
    }
}

fn listen(child: &mut Child) -> Result<String> {
    let mut answer = String::new();
    let mut pipe = child.stdout.take().context("its output is not piped")?;
    pipe.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Makes one run in this process: the other end of the pipe.
pub(crate) fn measure(order: &Order) -> Result<ExitCode> {
    interrupt::remember(|| ())?;
    // Whoever wants the answer is gone: so is the reason to go on.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("asking for a signal at the conductor's death")?;
    let answer = match order.measure() {
        Ok(mut run) => {
            run.warnings = Warning::about(&run);
            Answer::Run(Box::new(run))
        }
        Err(error) => Answer::Error(format!("{error:#}")),
    };
    println!("{}", serde_json::to_string(&answer)?);
    Ok(ExitCode::SUCCESS)
}
