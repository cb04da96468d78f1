//! A child that a contestant is to start itself.

use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::children;
use super::program::Program;
use super::shared_table::{Gate, SharedTable};

#[derive(Clone)]
pub(crate) enum SpawnRequest {
    /// A child that waits at a gate and exits when its slot says so.
    Child {
        table: Arc<SharedTable>,
        index: usize,
        gate: Gate,
    },
    /// A child that executes a program. Its exit is recorded in a slot.
    Program { index: usize, program: Arc<Program> },
}

impl SpawnRequest {
    pub(crate) fn index(&self) -> usize {
        match self {
            Self::Child { index, .. } | Self::Program { index, .. } => *index,
        }
    }

    /// The command for contestants in this process.
    pub(crate) fn command(&self) -> Command {
        match self {
            Self::Child { table, index, gate } => children::command(table, *index, *gate),
            Self::Program { index, program } => program.command(*index),
        }
    }

    /// The command line for contestants that are other programs. A child is an execution of this
    /// program there.
    pub(crate) fn argv(&self) -> Result<Vec<String>> {
        let (path, arguments) = match self {
            Self::Program { index, program } => (
                program.path().to_owned(),
                program.arguments(*index).collect(),
            ),
            Self::Child { table, index, gate } => {
                let fd = table.file().as_fd().as_raw_fd();
                let table = format!("/proc/{}/fd/{fd}", std::process::id());
                let arguments = [
                    "stand-by".into(),
                    table,
                    index.to_string(),
                    gate.to_string(),
                ];
                let path = std::env::current_exe().context("finding this program")?;
                (path, arguments.to_vec())
            }
        };
        let path = path.to_str().map(str::to_owned);
        let path = path.context("the path of the program is not UTF-8")?;
        Ok([vec![path], arguments].concat())
    }
}
