//! A child that a contestant is to start itself.

use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::children;
use super::shared_table::{Gate, SharedTable};

pub(crate) enum SpawnRequest {
    /// A child that waits at a gate and exits when its slot says so.
    Child {
        table: Arc<SharedTable>,
        index: usize,
        gate: Gate,
    },
    /// The program `true`. Its exit is recorded in a slot.
    True { index: usize },
}

impl SpawnRequest {
    pub(crate) fn index(&self) -> usize {
        match self {
            Self::Child { index, .. } | Self::True { index } => *index,
        }
    }

    /// The command for contestants in this process.
    pub(crate) fn command(&self) -> Command {
        match self {
            Self::Child { table, index, gate } => children::command(table, *index, *gate),
            Self::True { .. } => {
                let mut command = Command::new("true");
                command.stdin(Stdio::null());
                command
            }
        }
    }

    /// The command line for contestants that are other programs. They execute this program.
    pub(crate) fn argv(&self) -> Result<Vec<String>> {
        let Self::Child { table, index, gate } = self else {
            return Ok(vec!["true".into()]);
        };
        let program = std::env::current_exe().context("finding this program")?;
        let fd = table.file().as_fd().as_raw_fd();
        let table = format!("/proc/{}/fd/{fd}", std::process::id());
        Ok(vec![
            program.to_string_lossy().into_owned(),
            "stand-by".into(),
            table,
            index.to_string(),
            gate.to_string(),
        ])
    }
}
