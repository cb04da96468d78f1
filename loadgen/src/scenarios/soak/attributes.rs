//! The attributes of `exitring::Command`, with random values, and how a shell finds them.

use std::os::fd::RawFd;

use anyhow::{Context, Result};
use exitring::{Environment, Resource, Scheduling, Stdio};
use fastrand::Rng;

use super::draft::Draft;
use super::surroundings::{OTHER_GROUPS, OTHER_USER, Surroundings};

/// Adds an attribute to a command. Returns whether it can be had.
type Add = fn(&mut Draft, &mut Rng, &Surroundings) -> Result<bool>;

/// The attributes by their names in the results. Later ones may replace what earlier ones set.
const ATTRIBUTES: [(&str, Add); 15] = [
    ("user", user),
    ("session or group", session_or_group),
    ("limits", limits),
    ("nice", nice),
    ("scheduling", scheduling),
    ("cpu affinity", cpu_affinity),
    ("umask", umask),
    ("oom_score_adj", oom_score_adj),
    ("no_new_privs", no_new_privs),
    ("signals", signals),
    ("descriptors", descriptors),
    ("working directory", working_directory),
    ("environment", environment),
    ("standard streams", standard_streams),
    ("parent death signal", parent_death_signal),
];

/// The name of [`add_cgroup`] in the results.
pub(super) const CGROUP: &str = "cgroup";

/// Adds each attribute with a probability of one in four. Returns their names.
pub(super) fn add_some(
    draft: &mut Draft,
    random: &mut Rng,
    from: &Surroundings,
) -> Result<Vec<&'static str>> {
    let mut added = Vec::new();
    for (name, add) in ATTRIBUTES {
        if random.u8(0..4) == 0 && add(draft, random, from)? {
            added.push(name);
        }
    }
    if random.u8(0..4) == 0 && add_cgroup(draft, from) {
        added.push(CGROUP);
    }
    Ok(added)
}

/// The report of the exit shows it.
pub(super) fn add_cgroup(draft: &mut Draft, from: &Surroundings) -> bool {
    if let Ok(pool) = &from.pool {
        draft.command.cgroup(pool);
        draft.has_cgroup = true;
    }
    from.pool.is_ok()
}

fn one_of<T: Clone>(random: &mut Rng, values: &[T]) -> T {
    values[random.usize(..values.len())].clone()
}

fn user(draft: &mut Draft, random: &mut Rng, from: &Surroundings) -> Result<bool> {
    if !(from.may_change_user && draft.may_change_user) {
        return Ok(false);
    }
    let groups: &[u32] = if random.bool() { &OTHER_GROUPS } else { &[] };
    // The present directory may be closed to the user.
    draft
        .command
        .current_dir("/")
        .uid(OTHER_USER)
        .gid(OTHER_USER);
    // Without this call the groups are dropped too.
    if !groups.is_empty() {
        draft.command.groups(groups.iter().copied());
    }
    let ids = format!("\"$(echo $value)\" = '{OTHER_USER} {OTHER_USER} {OTHER_USER} {OTHER_USER}'");
    draft.status.push(("Uid", ids.clone()));
    draft.status.push(("Gid", ids));
    let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
    let groups = format!("\"$value\" = '{}'", groups.join(" "));
    draft.status.push(("Groups", groups));
    Ok(true)
}

fn session_or_group(draft: &mut Draft, random: &mut Rng, from: &Surroundings) -> Result<bool> {
    match random.u8(0..3) {
        0 => {
            draft.command.session();
            draft.stat.push((6, "$$".into()));
            draft.stat.push((5, "$$".into()));
        }
        1 => {
            draft.command.process_group(0);
            draft.stat.push((5, "$$".into()));
        }
        _ => {
            draft.command.process_group(from.group);
            draft.stat.push((5, from.group.to_string()));
        }
    }
    Ok(true)
}

fn limits(draft: &mut Draft, random: &mut Rng, from: &Surroundings) -> Result<bool> {
    // Above all descriptors that are mapped, and those that a shell uses.
    let files = random.u64(64..256).min(from.max_files);
    draft
        .command
        .limit(Resource::OpenFiles, Some(files), Some(files));
    draft.command.limit(Resource::Core, Some(0), Some(0));
    draft.tests.push(format!("\"$(ulimit -n)\" = {files}"));
    draft.tests.push("\"$(ulimit -c)\" = 0".into());
    Ok(true)
}

/// A little only: a child that hardly gets the CPU also delays this process until it has executed
/// its program.
fn nice(draft: &mut Draft, random: &mut Rng, from: &Surroundings) -> Result<bool> {
    let value = (from.nice + random.i32(1..=5)).min(19);
    draft.command.nice(value);
    draft.stat.push((19, value.to_string()));
    Ok(true)
}

/// Neither `Idle`, for the same reason, nor the real-time policies, which need privileges.
fn scheduling(draft: &mut Draft, random: &mut Rng, _: &Surroundings) -> Result<bool> {
    let (scheduling, number) = one_of(
        random,
        &[
            (Scheduling::Other, libc::SCHED_OTHER),
            (Scheduling::Batch, libc::SCHED_BATCH),
        ],
    );
    draft.command.scheduling(scheduling);
    draft.stat.push((41, number.to_string()));
    Ok(true)
}

fn cpu_affinity(draft: &mut Draft, random: &mut Rng, from: &Surroundings) -> Result<bool> {
    let cpu = one_of(random, &from.cpus);
    draft.command.cpu_affinity([cpu]);
    draft
        .status
        .push(("Cpus_allowed_list", format!("\"$value\" = {cpu}")));
    Ok(true)
}

fn umask(draft: &mut Draft, random: &mut Rng, _: &Surroundings) -> Result<bool> {
    let mask = one_of(random, &[0o022, 0o027, 0o077]);
    draft.command.umask(mask);
    draft.tests.push(format!("\"$(umask)\" = {mask:04o}"));
    Ok(true)
}

fn oom_score_adj(draft: &mut Draft, random: &mut Rng, from: &Surroundings) -> Result<bool> {
    // A lower value needs a privilege.
    let value = random.i16(from.oom_score_adj..=1000);
    draft.command.oom_score_adj(value);
    draft.tests.push(format!(
        "\"$(read v </proc/$$/oom_score_adj; echo $v)\" = {value}"
    ));
    Ok(true)
}

fn no_new_privs(draft: &mut Draft, _: &mut Rng, _: &Surroundings) -> Result<bool> {
    draft.command.no_new_privs();
    draft.status.push(("NoNewPrivs", "\"$value\" = 1".into()));
    Ok(true)
}

fn signals(draft: &mut Draft, random: &mut Rng, _: &Surroundings) -> Result<bool> {
    let signals = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM, libc::SIGWINCH];
    let bits = |signals: &[i32]| {
        signals
            .iter()
            .fold(0_u64, |bits, number| bits | 1 << (number - 1))
    };
    let (count_blocked, count_ignored) = (random.usize(..3), random.usize(..3));
    let blocked = random.choose_multiple(signals, count_blocked);
    let ignored = random.choose_multiple(signals, count_ignored);
    draft
        .command
        .blocked_signals(blocked.iter().copied())
        .default_signals(signals)
        .ignored_signals(ignored.iter().copied());
    let blocked = format!("\"$value\" = {:016x}", bits(&blocked));
    draft.status.push(("SigBlk", blocked));
    // Other ignored signals are inherited. A shell calculates with 63 bits, so only the last 32 of
    // the signals are looked at.
    let (mask, ignored) = (bits(&signals), bits(&ignored));
    let ignored = format!("$((0x${{value#????????}} & {mask})) = {ignored}");
    draft.status.push(("SigIgn", ignored));
    Ok(true)
}

fn descriptors(draft: &mut Draft, random: &mut Rng, from: &Surroundings) -> Result<bool> {
    let count = random.usize(1..5);
    let numbers: Vec<RawFd> = random.choose_multiple(3..60, count);
    for number in numbers {
        let null = from.null.try_clone().context("copying a descriptor")?;
        draft.command.descriptor(number, null);
        draft
            .tests
            .push(format!("/proc/$$/fd/{number} -ef /dev/null"));
    }
    Ok(true)
}

fn working_directory(draft: &mut Draft, random: &mut Rng, _: &Surroundings) -> Result<bool> {
    let directory = one_of(random, &["/", "/proc", "/dev"]);
    draft.command.current_dir(directory);
    draft.tests.push(format!("\"$PWD\" = {directory}"));
    Ok(true)
}

fn environment(draft: &mut Draft, random: &mut Rng, from: &Surroundings) -> Result<bool> {
    match random.u8(0..3) {
        0 => _ = draft.command.environment(&from.environment),
        1 => _ = draft.command.environment(&Environment::empty()),
        _ => {}
    }
    let value = random.u64(..);
    draft.command.env("LOADGEN_SOAK", value.to_string());
    draft.tests.push(format!("\"$LOADGEN_SOAK\" = {value}"));
    if let Some(name) = &from.variable {
        draft.command.env_remove(name);
        let name = name.to_string_lossy();
        draft.tests.push(format!("-z \"${{{name}+set}}\""));
    }
    Ok(true)
}

/// Standard error is for the messages of the shell.
fn standard_streams(draft: &mut Draft, random: &mut Rng, from: &Surroundings) -> Result<bool> {
    for number in 0..2 {
        let file = || from.null.try_clone().context("copying a descriptor");
        let (stream, is_pipe) = match random.u8(0..3) {
            0 => (Stdio::null(), false),
            1 => (Stdio::piped(), true),
            _ => (file()?.into(), false),
        };
        match number {
            0 => draft.command.stdin(stream),
            _ => draft.command.stdout(stream),
        };
        draft.tests.push(match is_pipe {
            true => format!("-p /proc/$$/fd/{number}"),
            false => format!("/proc/$$/fd/{number} -ef /dev/null"),
        });
    }
    Ok(true)
}

/// The threads that start children end with the watcher, after all exits. So the signal comes only
/// if this process ends early.
fn parent_death_signal(draft: &mut Draft, _: &mut Rng, _: &Surroundings) -> Result<bool> {
    draft.command.parent_death_signal(libc::SIGKILL);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use exitring::{Command, Outcome, Watcher};

    use super::super::draft::{CODES, UNFULFILLED};
    use super::*;

    /// A shell in which the attribute is checked, but maybe not set.
    fn outcome(name: &str, is_set: bool, random: &mut Rng, from: &Surroundings) -> Outcome {
        let (_, add) = ATTRIBUTES
            .iter()
            .find(|(other, _)| *other == name)
            .expect("a name");
        let mut draft = Draft::new(Command::new("/bin/sh"));
        draft.may_change_user = true;
        add(&mut draft, random, from).expect("it can be added");
        if !is_set {
            draft.command = Command::new("/bin/sh");
            // The message of the shell is expected here.
            draft.command.stderr(Stdio::null());
        }
        draft.add_script(CODES - 1);
        let watcher = Watcher::new().expect("it is built");
        let child = watcher.spawn(&mut draft.command).expect("it starts");
        child.wait().expect("it ends").outcome()
    }

    #[test]
    fn a_shell_sees_each_attribute_and_misses_it_if_it_is_not_set() {
        let from = Surroundings::new().expect("they are known");
        let mut random = Rng::with_seed(1);
        for (name, _) in ATTRIBUTES {
            let mut outcomes = |is_set| {
                let mut one = || outcome(name, is_set, &mut random, &from);
                (0..12).map(|_| one()).collect::<Vec<_>>()
            };
            let expected = Outcome::Exited(CODES - 1);
            assert_eq!(outcomes(true), vec![expected; 12], "{name}");
            // A random value may be that of this process, but hardly twelve times. Nothing shows the
            // death signal, and a user who may not be changed is not checked.
            let is_shown = match name {
                "parent death signal" => false,
                "user" => from.may_change_user,
                "cpu affinity" => from.cpus.len() > 1,
                _ => true,
            };
            let missed = outcomes(false).contains(&Outcome::Exited(UNFULFILLED));
            assert_eq!(missed, is_shown, "{name}");
        }
    }
}
