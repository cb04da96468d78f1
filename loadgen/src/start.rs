//! A child that a contestant is to start itself.

use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::board::{Board, Gate};
use crate::children;

pub(crate) enum Start {
    /// One that lives as its slot says.
    Child {
        board: Arc<Board>,
        index: usize,
        gate: Gate,
    },
    /// `true`, in the name of a slot.
    True { index: usize },
}

impl Start {
    pub(crate) fn index(&self) -> usize {
        match self {
            Self::Child { index, .. } | Self::True { index } => *index,
        }
    }

    /// For contestants of this process.
    pub(crate) fn command(&self) -> Command {
        match self {
            Self::Child { board, index, gate } => children::command(board, *index, *gate),
            Self::True { .. } => {
                let mut command = Command::new("true");
                command.stdin(Stdio::null());
                command
            }
        }
    }

    /// The same for contestants that are other programs: theirs is a real exec, of this program.
    pub(crate) fn words(&self) -> Result<Vec<String>> {
        let Self::Child { board, index, gate } = self else {
            return Ok(vec!["true".into()]);
        };
        let program = std::env::current_exe().context("finding this program")?;
        let fd = board.file().as_fd().as_raw_fd();
        let board = format!("/proc/{}/fd/{fd}", std::process::id());
        Ok(vec![
            program.to_string_lossy().into_owned(),
            "stand-by".into(),
            board,
            index.to_string(),
            gate.to_string(),
        ])
    }
}
