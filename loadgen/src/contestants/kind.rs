//! The contestants by name, and what each can do and needs.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{external, service, uring_waitid};
use crate::scenarios::Scenario;

#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    ValueEnum,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    #[default]
    /// This library, owning the children; callbacks on --workers threads
    Exitring,
    /// This library, owning the children; callbacks on the ring thread
    ExitringInline,
    /// This library, watching only; the callback reaps
    ExitringWatch,
    /// This library, owning the children, on its epoll backend; callbacks on the watching thread
    ExitringEpoll,
    /// The Shadow simulator's design: one thread, epoll on pidfds, callbacks under its lock
    Shadow,
    /// tokio::process, on a runtime of one thread
    Tokio,
    /// async-process, on an executor of one thread
    AsyncProcess,
    /// SIGCHLD, and a look at every child on each, as libuv does
    SigchldScan,
    /// A thread for each child, in waitpid
    ThreadPerChild,
    /// IORING_OP_WAITID for each child
    UringWaitid,
    /// Python's asyncio, if python3 is installed
    PythonAsyncio,
    /// Node's child_process, if node is installed
    Node,
    /// A thread in waitpid(-1): the floor, which takes everybody's children
    WaitLoop,
    /// exitring serve, whose records survive its own end
    Serve,
    /// exitring serve, whose records survive a power failure
    ServePower,
}

impl Kind {
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Says what it is, with what matters of its settings.
    pub(crate) fn title(self, workers: usize) -> String {
        match self {
            Self::Exitring => format!("exitring, owned, workers({workers})"),
            Self::ExitringInline => "exitring, owned, workers(0)".into(),
            Self::ExitringWatch => format!("exitring, watched, workers({workers})"),
            Self::ExitringEpoll => "exitring on epoll, workers(0)".into(),
            Self::Shadow => "Shadow design (epoll, lock)".into(),
            Self::Tokio => "tokio::process".into(),
            Self::AsyncProcess => "async-process".into(),
            Self::SigchldScan => "SIGCHLD scan".into(),
            Self::ThreadPerChild => "thread per child".into(),
            Self::UringWaitid => "IORING_OP_WAITID".into(),
            Self::PythonAsyncio => "Python asyncio".into(),
            Self::Node => "Node child_process".into(),
            Self::WaitLoop => "bare wait loop".into(),
            Self::Serve => "exitring serve, --durability process".into(),
            Self::ServePower => "exitring serve, --durability power".into(),
        }
    }

    /// Whether it takes children that were forked already, not only ones that it starts.
    pub(crate) fn takes_pids(self) -> bool {
        !matches!(self, Self::Tokio | Self::AsyncProcess) && !self.is_external()
    }

    /// Whether it is a program of its own, in another language.
    pub(crate) fn is_external(self) -> bool {
        matches!(self, Self::PythonAsyncio | Self::Node)
    }

    /// Whether it is the service, with clients.
    pub(crate) fn is_service(self) -> bool {
        matches!(self, Self::Serve | Self::ServePower)
    }

    /// Whether it is the library itself, with a ring: a watch that is given up costs no descriptor until then.
    fn gives_up(self) -> bool {
        matches!(
            self,
            Self::Exitring | Self::ExitringInline | Self::ExitringWatch
        )
    }

    /// How many descriptors it holds for each child.
    pub(crate) fn descriptors_per_child(self) -> u64 {
        match self {
            Self::ExitringEpoll
            | Self::Shadow
            | Self::Tokio
            | Self::AsyncProcess
            | Self::PythonAsyncio => 1,
            _ => 0,
        }
    }

    /// How many processes and threads there are for each child.
    pub(crate) fn tasks_per_child(self) -> u64 {
        match self {
            Self::ThreadPerChild => 2,
            _ => 1,
        }
    }

    /// Why it cannot take part, whatever the size.
    pub(crate) fn cannot(self, scenario: &Scenario) -> Option<String> {
        match scenario {
            Scenario::Register(_) if !self.takes_pids() => Some(
                "watches only what it starts itself: its registration cannot be told from the fork"
                    .into(),
            ),
            Scenario::Soak(_) if self != Self::Exitring => {
                Some("soak exercises what only exitring offers".into())
            }
            Scenario::Abandon(_) if !self.gives_up() => {
                Some("only exitring has watches without a callback".into())
            }
            Scenario::Churn(_) | Scenario::Spawn(_) if self.is_external() => Some(
                "its children are exec'ed, and ordered through a pipe: that would be measured"
                    .into(),
            ),
            Scenario::Serve(_) if self.is_service() => service::missing(),
            _ if self.is_service() => Some("the service takes part in serve only".into()),
            _ if self == Self::UringWaitid => uring_waitid::missing(),
            _ => external::missing(self),
        }
    }
}
