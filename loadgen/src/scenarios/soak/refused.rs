//! Commands that cannot be started, and the error that each must have.

use std::ffi::OsStr;

use anyhow::{Context, Result};
use exitring::{Command, Resource, SetupStep, SpawnError, Stdio};
use fastrand::Rng;

use super::surroundings::Surroundings;

/// Longer than the kernel accepts in one piece (`MAX_ARG_STRLEN`, `execve(2)`).
const TOO_LONG: usize = 200_000;

pub(super) struct Refused {
    pub(super) command: Command,
    pub(super) is_expected: fn(&SpawnError) -> bool,
}

fn setup(error: &SpawnError) -> Option<SetupStep> {
    match error {
        SpawnError::Setup { step, .. } => Some(*step),
        _ => None,
    }
}

impl Refused {
    pub(super) fn one(random: &mut Rng, from: &Surroundings) -> Result<Self> {
        let number = random.u8(0..16);
        let mut command = Command::new(match number {
            0 => OsStr::new("/no/such/program"),
            1 => OsStr::new("loadgen-no-such-program"),
            2 => OsStr::new("/"),
            3 => from.no_interpreter.as_os_str(),
            _ => from.exits.path().as_os_str(),
        });
        // Nothing of these may be left.
        if random.bool() {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        }
        if let Ok(pool) = &from.pool
            && random.bool()
        {
            command.cgroup(pool);
        }
        let is_expected: fn(&SpawnError) -> bool = match number {
            0 | 1 => |error| matches!(error, SpawnError::NotFound { .. }),
            2 => |error| matches!(error, SpawnError::NotExecutable { .. }),
            3 => |error| matches!(error, SpawnError::NoInterpreter { .. }),
            4 => {
                command.arg("x".repeat(TOO_LONG));
                |error| matches!(error, SpawnError::ArgumentsTooLarge { one: true, .. })
            }
            5 => {
                command.arg("a\0b");
                |error| matches!(error, SpawnError::Invalid { .. })
            }
            6 => {
                command.env("A=B", "");
                |error| matches!(error, SpawnError::Invalid { .. })
            }
            7 => {
                let null = from.null.try_clone().context("copying a descriptor")?;
                command.descriptor(2, null);
                |error| matches!(error, SpawnError::Invalid { .. })
            }
            8 => {
                command.blocked_signals([65]);
                |error| matches!(error, SpawnError::Invalid { .. })
            }
            9 => {
                command.uid(u32::MAX);
                |error| matches!(error, SpawnError::Invalid { .. })
            }
            10 => {
                command.current_dir("/no/such/directory");
                |error| setup(error) == Some(SetupStep::CurrentDir)
            }
            11 => {
                command.limit(Resource::OpenFiles, Some(20), Some(10));
                |error| setup(error) == Some(SetupStep::Limit)
            }
            12 => {
                command.process_group(i32::MAX);
                |error| setup(error) == Some(SetupStep::ProcessGroup)
            }
            13 => {
                command.cpu_affinity([]);
                |error| setup(error) == Some(SetupStep::Affinity)
            }
            14 => {
                command.oom_score_adj(2000);
                |error| setup(error) == Some(SetupStep::OomScoreAdj)
            }
            _ => {
                command.ignored_signals([libc::SIGKILL]);
                |error| setup(error) == Some(SetupStep::Signals)
            }
        };
        Ok(Self {
            command,
            is_expected,
        })
    }
}
