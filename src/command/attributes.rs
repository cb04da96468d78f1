//! What a child sets for itself before it executes its program.

use std::ffi::OsStr;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::thread::{CpuSet, Gid, Uid};

use super::builder::Command;
use super::c_strings::CStrings;
use super::{Resource, Scheduling};
use crate::CgroupPool;

#[derive(Clone, Default)]
pub(crate) struct Attributes {
    pub(crate) cgroup: Option<CgroupPool>,
    pub(crate) kill_leftovers: bool,
    pub(crate) group: Group,
    pub(crate) controlling_terminal: Option<RawFd>,
    /// Numbers in the child, and the files that they become.
    pub(crate) descriptors: Vec<(RawFd, Arc<OwnedFd>)>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) nice: Option<i32>,
    pub(crate) scheduling: Option<Scheduling>,
    pub(crate) affinity: Option<Box<CpuSet>>,
    /// The number in ASCII.
    pub(crate) oom_score_adj: Option<String>,
    pub(crate) umask: Option<u32>,
    pub(crate) groups: Option<Vec<Gid>>,
    pub(crate) gid: Option<Gid>,
    pub(crate) uid: Option<Uid>,
    /// One string, if there is one.
    pub(crate) current_dir: CStrings,
    pub(crate) no_new_privs: bool,
    pub(crate) death_signal: Option<i32>,
    pub(crate) signals: Signals,
    /// A value that the kernel's interface cannot express.
    pub(crate) invalid: Option<String>,
}

#[derive(Clone, Copy, Default)]
pub(crate) enum Group {
    #[default]
    Inherited,
    /// The group with this number; 0 for a new one.
    Join(i32),
    Session,
}

#[derive(Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) resource: Resource,
    pub(crate) soft: Option<u64>,
    pub(crate) hard: HardLimit,
}

#[derive(Clone, Copy)]
pub(crate) enum HardLimit {
    Unchanged,
    /// `None` for no limit.
    New(Option<u64>),
}

/// Sets of signals: bit `n - 1` is signal `n`, as in the kernel.
#[derive(Clone, Copy, Default)]
pub(crate) struct Signals {
    /// `None`: the mask of the calling thread.
    pub(crate) blocked: Option<u64>,
    pub(crate) default: u64,
    pub(crate) ignored: u64,
}

/// The bit of a signal; `None` if there is no such signal.
fn bit(signal: i32) -> Option<u64> {
    matches!(signal, 1..=64).then(|| 1 << (signal - 1))
}

/// # Attributes of the process
///
/// The child sets these itself, between its start and the execution of the program. If one cannot
/// be set, nothing is executed, and the error is [`SpawnError::Setup`](crate::SpawnError::Setup).
impl Command {
    /// Sets the working directory of the child.
    ///
    /// A relative program path, and relative directories in `PATH`, are looked up in it.
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.attributes.current_dir = CStrings::default();
        let directory = directory.as_ref().as_os_str();
        self.attributes.current_dir.push(directory);
        self
    }

    /// Makes an open file the descriptor `number` of the child, for numbers from 3 on. The child
    /// inherits it; the file of this process keeps its number and its close-on-exec flag.
    ///
    /// Any number of descriptors can be mapped, also to numbers that are in use in this process. A
    /// number may be mapped once.
    pub fn descriptor(&mut self, number: RawFd, file: impl Into<OwnedFd>) -> &mut Self {
        let file = Arc::new(file.into());
        if number < 3 {
            self.invalid(format!(
                "descriptor {number} cannot be mapped: 0 to 2 are set with stdin, stdout and stderr"
            ));
        } else if self
            .attributes
            .descriptors
            .iter()
            .any(|(other, _)| *other == number)
        {
            self.invalid(format!("descriptor {number} is mapped twice"));
        } else {
            self.attributes.descriptors.push((number, file));
        }
        self
    }

    /// Makes the child a member of the process group `group`, or with 0 the leader of a new one
    /// (`setpgid(2)`).
    ///
    /// A signal that stops the group of this process (Ctrl-Z at a terminal) does not stop the child
    /// from then on. Replaces [`session`](Self::session).
    pub fn process_group(&mut self, group: i32) -> &mut Self {
        self.attributes.group = Group::Join(group);
        self
    }

    /// Makes the child the leader of a new session and of a new process group, without a
    /// controlling terminal (`setsid(2)`). Replaces [`process_group`](Self::process_group).
    pub fn session(&mut self) -> &mut Self {
        self.attributes.group = Group::Session;
        self
    }

    /// Makes the terminal that descriptor `number` of the child refers to its controlling terminal
    /// (`TIOCSCTTY`, `ioctl_tty(2)`), and the child the leader of a new [`session`](Self::session).
    pub fn controlling_terminal(&mut self, number: RawFd) -> &mut Self {
        self.attributes.controlling_terminal = Some(number);
        self.session()
    }

    /// Starts each child in a cgroup of its own, a leaf of this pool, with the limits of the pool.
    ///
    /// The child is in the group from its first instruction on (`CLONE_INTO_CGROUP`, Linux 5.7;
    /// before that it enters the group before it executes the program). All that it starts is in
    /// the group as well, whatever session or process group it enters:
    /// [`Child::kill_tree`](crate::Child::kill_tree) and the `SIGKILL` of a
    /// [deadline](crate::Child::deadline) reach all of it, and [`Exit::cgroup`](crate::Exit::cgroup)
    /// reports what the child has left. The leaf returns to the pool when the child has ended, or,
    /// if something was left in it, when the last handle of the child is dropped as well.
    ///
    /// If the group cannot be had, nothing is started
    /// ([`SpawnError::Cgroup`](crate::SpawnError::Cgroup)).
    ///
    /// ```no_run
    /// use exitring::{Cgroup, CgroupLimits, Command, Watcher};
    ///
    /// let limits = CgroupLimits::new().memory(512 << 20).processes(100);
    /// let pool = Cgroup::find()?.pool(&limits)?;
    /// let watcher = Watcher::new()?;
    /// let child = watcher.spawn(Command::new("make").arg("test").cgroup(&pool))?;
    /// let exit = child.wait()?;
    /// if exit.cgroup().is_some_and(|cgroup| cgroup.leftover_count() > 0) {
    ///     child.kill_tree()?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cgroup(&mut self, pool: &CgroupPool) -> &mut Self {
        self.attributes.cgroup = Some(pool.clone());
        self
    }

    /// Kills what is left in the [`cgroup`](Self::cgroup) of a child as soon as the child has ended,
    /// so that nothing that it started survives it. [`Exit::cgroup`](crate::Exit::cgroup) reports
    /// what was killed. Without a cgroup it has no effect.
    pub fn kill_leftovers(&mut self) -> &mut Self {
        self.attributes.kill_leftovers = true;
        self
    }

    /// Sets the file mode creation mask (`umask(2)`).
    pub fn umask(&mut self, mask: u32) -> &mut Self {
        self.attributes.umask = Some(mask);
        self
    }

    /// Sets a resource limit (`setrlimit(2)`). `None` is no limit. A soft limit above the hard one,
    /// or a hard limit above the present one without `CAP_SYS_RESOURCE`, is refused.
    pub fn limit(&mut self, resource: Resource, soft: Option<u64>, hard: Option<u64>) -> &mut Self {
        self.set_limit(resource, soft, HardLimit::New(hard))
    }

    /// Sets the soft limit of a resource, and leaves the hard limit as it is. A soft limit above that
    /// is refused.
    pub fn soft_limit(&mut self, resource: Resource, soft: Option<u64>) -> &mut Self {
        self.set_limit(resource, soft, HardLimit::Unchanged)
    }

    fn set_limit(&mut self, resource: Resource, soft: Option<u64>, hard: HardLimit) -> &mut Self {
        let limit = Limit {
            resource,
            soft,
            hard,
        };
        let limits = &mut self.attributes.limits;
        limits.retain(|other| other.resource != resource);
        limits.push(limit);
        self
    }

    /// Sets the nice value, from -20 (most CPU time) to 19; the kernel rounds values outside of
    /// that (`setpriority(2)`). A lower value than the present one needs `RLIMIT_NICE` or
    /// `CAP_SYS_NICE`.
    pub fn nice(&mut self, value: i32) -> &mut Self {
        self.attributes.nice = Some(value);
        self
    }

    /// Sets the scheduling policy (`sched_setscheduler(2)`). Real-time policies need
    /// `RLIMIT_RTPRIO` or `CAP_SYS_NICE`.
    pub fn scheduling(&mut self, scheduling: Scheduling) -> &mut Self {
        self.attributes.scheduling = Some(scheduling);
        self
    }

    /// Restricts the child to these CPUs, by number (`sched_setaffinity(2)`). The kernel refuses a
    /// set without an available CPU.
    pub fn cpu_affinity(&mut self, cpus: impl IntoIterator<Item = usize>) -> &mut Self {
        let mut set = CpuSet::new();
        for cpu in cpus {
            if cpu >= CpuSet::MAX_CPU {
                self.invalid(format!("there is no CPU {cpu}"));
            } else {
                set.set(cpu);
            }
        }
        self.attributes.affinity = Some(Box::new(set));
        self
    }

    /// Sets how readily the kernel kills the child when memory is short, from -1000 (never) to 1000
    /// (first) (`proc_pid_oom_score_adj(5)`). A lower value than the present one needs
    /// `CAP_SYS_RESOURCE`.
    pub fn oom_score_adj(&mut self, value: i16) -> &mut Self {
        self.attributes.oom_score_adj = Some(value.to_string());
        self
    }

    /// Sets the user of the child: the real, effective, and saved user id (`setresuid(2)`). Needs
    /// `CAP_SETUID`, unless it is the present one.
    ///
    /// Without [`groups`](Self::groups), the child also drops its supplementary groups, if it may.
    ///
    /// Until the child has executed its program, it shares the memory of this process. The kernel
    /// makes this process non-dumpable meanwhile, so that the new user can neither trace the child
    /// (`ptrace(2)`) nor read the memory. The flag is restored after the child has left the memory,
    /// unless that takes longer than a second: then this process stays non-dumpable.
    /// This protection is missing where the sysctl `fs.suid_dumpable` is 1, a setting for debugging
    /// (`proc_sys_fs(5)`). The new user may also stop the child (`SIGSTOP`) in this short time,
    /// which suspends the calling thread until the child continues.
    pub fn uid(&mut self, uid: u32) -> &mut Self {
        if self.is_id(uid) {
            self.attributes.uid = Some(Uid::from_raw(uid));
        }
        self
    }

    /// Sets the group of the child: the real, effective, and saved group id (`setresgid(2)`). Needs
    /// `CAP_SETGID`, unless it is the present one.
    pub fn gid(&mut self, gid: u32) -> &mut Self {
        if self.is_id(gid) {
            self.attributes.gid = Some(Gid::from_raw(gid));
        }
        self
    }

    /// Sets the supplementary groups (`setgroups(2)`). Needs `CAP_SETGID`.
    pub fn groups(&mut self, groups: impl IntoIterator<Item = u32>) -> &mut Self {
        let groups = groups.into_iter().filter(|gid| self.is_id(*gid));
        self.attributes.groups = Some(groups.map(Gid::from_raw).collect());
        self
    }

    /// Prevents the program, and what it executes, from gaining privileges: set-user-ID bits and
    /// file capabilities have no effect (`PR_SET_NO_NEW_PRIVS`).
    pub fn no_new_privs(&mut self) -> &mut Self {
        self.attributes.no_new_privs = true;
        self
    }

    /// Sets the signal that the child gets when the thread ends that started it
    /// (`PR_SET_PDEATHSIG`). Note that this is a thread, not the process. A program that changes
    /// its user or has a set-user-ID bit loses the setting.
    pub fn parent_death_signal(&mut self, signal: i32) -> &mut Self {
        self.check_signal(signal);
        self.attributes.death_signal = Some(signal);
        self
    }

    /// Sets which signals the child blocks at its start. By default, those that the calling thread
    /// blocks.
    pub fn blocked_signals(&mut self, signals: impl IntoIterator<Item = i32>) -> &mut Self {
        let bits = self.bits(signals);
        self.attributes.signals.blocked = Some(bits);
        self
    }

    /// Sets signals to their default action. `SIGPIPE` is set to it in any case, unless it is
    /// [ignored](Self::ignored_signals): Rust programs ignore it, and most others expect not to.
    /// Signals with a handler always get their default action.
    pub fn default_signals(&mut self, signals: impl IntoIterator<Item = i32>) -> &mut Self {
        let bits = self.bits(signals);
        self.attributes.signals.default |= bits;
        self.attributes.signals.ignored &= !bits;
        self
    }

    /// Makes the child ignore signals. `SIGKILL` and `SIGSTOP` cannot be ignored.
    pub fn ignored_signals(&mut self, signals: impl IntoIterator<Item = i32>) -> &mut Self {
        let bits = self.bits(signals);
        self.attributes.signals.ignored |= bits;
        self.attributes.signals.default &= !bits;
        self
    }

    fn bits(&mut self, signals: impl IntoIterator<Item = i32>) -> u64 {
        signals.into_iter().fold(0, |bits, signal| {
            self.check_signal(signal);
            bits | bit(signal).unwrap_or(0)
        })
    }

    fn check_signal(&mut self, signal: i32) {
        if bit(signal).is_none() {
            self.invalid(format!("there is no signal {signal}"));
        }
    }

    /// The highest number stands for "no change" in the kernel's interface.
    fn is_id(&mut self, id: u32) -> bool {
        if id == u32::MAX {
            self.invalid(format!("{id} is no number of a user or group"));
        }
        id != u32::MAX
    }

    /// Notes the first setting that cannot be carried out. The spawn returns it.
    fn invalid(&mut self, reason: String) {
        self.attributes.invalid.get_or_insert(reason);
    }
}

impl Attributes {
    /// The working directory, if one is set.
    pub(crate) fn current_dir(&self) -> Option<&Path> {
        self.current_dir.get(0).map(Path::new)
    }

    /// Whether the child changes its user or groups.
    pub(crate) fn changes_credentials(&self) -> bool {
        self.uid.is_some() || self.gid.is_some() || self.groups.is_some()
    }

    /// Checks what the setters could not check.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(reason) = &self.invalid {
            return Err(reason.clone());
        }
        if self.current_dir.first_with_nul().is_some() {
            return Err("the working directory contains a NUL".into());
        }
        if self
            .current_dir
            .get(0)
            .is_some_and(|dir: &OsStr| dir.as_bytes().is_empty())
        {
            return Err("the working directory is an empty path".into());
        }
        Ok(())
    }
}
