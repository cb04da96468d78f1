//! The contestants by name, with the properties of each.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// exitring that owns the children; callbacks run on --workers threads. It starts programs with
    /// exitring::Command and one copy of the environment
    Exitring,
    /// exitring that owns the children; callbacks run on the ring thread
    ExitringInline,
    /// The same as exitring, without the resource usage of children, which its peers do not read
    ExitringNoUsage,
    /// exitring that only watches; the callback reaps
    ExitringWatch,
    /// exitring that owns the children, with the epoll backend; callbacks run on the watching
    /// thread
    ExitringEpoll,
    /// The same as exitring, which starts programs with the standard library's Command (posix_spawn)
    ExitringStd,
    /// The same as exitring-std with an empty pre_exec closure, so that Command forks
    ExitringPreExec,
    /// The same as exitring, with a cgroup for each program; needs a delegated cgroup
    ExitringCgroup,
    /// Design of the Shadow simulator: one thread, epoll on pidfds, callbacks run under its lock
    Shadow,
    /// tokio::process on a runtime with one thread
    Tokio,
    /// async-process on an executor with one thread
    AsyncProcess,
    /// SIGCHLD handler that checks every child on each signal, as libuv does
    SigchldScan,
    /// One thread per child, in waitpid
    ThreadPerChild,
    /// One IORING_OP_WAITID per child
    UringWaitid,
    /// The least that one thread with an io_uring and POLL_ADD must do: the lower bound of
    /// exitring-inline
    PollFloor,
    /// The same, and a second thread that runs the callbacks: the lower bound of exitring
    PollFloorWorker,
    /// Python's asyncio; needs python3
    PythonAsyncio,
    /// Node's child_process; needs node
    Node,
    /// One thread in waitpid(-1): the lower bound, which reaps every child of the process
    WaitLoop,
    /// The standard library's Command::spawn, then waitpid in the same thread
    StdSpawn,
    /// Threads in posix_spawn and waitpid, one child at a time each: the lower bound of spawning
    PosixSpawn,
    /// Go's os/exec; needs go
    Go,
    /// libuv's uv_spawn in C; needs cc and libuv1-dev
    Libuv,
    /// Child sources of sd-event in C; needs cc and libsystemd-dev
    SdEvent,
    /// exitring serve with records that survive the end of the service
    Serve,
    /// exitring serve with records that survive a power failure
    ServePower,
}

impl Kind {
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The name for people, with the relevant settings.
    pub(crate) fn title(self, workers: usize) -> String {
        match self {
            Self::Exitring => format!("exitring, owned, workers({workers})"),
            Self::ExitringInline => "exitring, owned, workers(0)".into(),
            Self::ExitringNoUsage => format!("exitring, owned, no usage, workers({workers})"),
            Self::ExitringWatch => format!("exitring, watched, workers({workers})"),
            Self::ExitringEpoll => "exitring on epoll, workers(0)".into(),
            Self::ExitringStd => format!("exitring, std Command, workers({workers})"),
            Self::ExitringPreExec => {
                format!("exitring, std Command with pre_exec, workers({workers})")
            }
            Self::ExitringCgroup => format!("exitring, in cgroups, workers({workers})"),
            Self::Shadow => "Shadow design (epoll, lock)".into(),
            Self::Tokio => "tokio::process".into(),
            Self::AsyncProcess => "async-process".into(),
            Self::SigchldScan => "SIGCHLD scan".into(),
            Self::ThreadPerChild => "thread per child".into(),
            Self::UringWaitid => "IORING_OP_WAITID".into(),
            Self::PollFloor => "floor: POLL_ADD in one thread".into(),
            Self::PollFloorWorker => "floor: POLL_ADD, one worker".into(),
            Self::PythonAsyncio => "Python asyncio".into(),
            Self::Node => "Node child_process".into(),
            Self::WaitLoop => "bare wait loop".into(),
            Self::StdSpawn => "std Command, wait in the same thread".into(),
            Self::PosixSpawn => "posix_spawn, waitpid in threads".into(),
            Self::Go => "Go os/exec".into(),
            Self::Libuv => "libuv in C".into(),
            Self::SdEvent => "sd-event in C".into(),
            Self::Serve => "exitring serve, --durability process".into(),
            Self::ServePower => "exitring serve, --durability power".into(),
        }
    }

    /// Whether it can watch children that it did not start.
    pub(crate) fn takes_pids(self) -> bool {
        !matches!(self, Self::Tokio | Self::AsyncProcess) && !self.is_external()
    }

    /// Whether it reads the output of children as its users would.
    pub(crate) fn reads_output(self) -> bool {
        matches!(
            self,
            Self::Exitring
                | Self::ExitringInline
                | Self::ExitringNoUsage
                | Self::ExitringEpoll
                | Self::ExitringStd
                | Self::ExitringPreExec
                | Self::ExitringCgroup
                | Self::Tokio
                | Self::AsyncProcess
                | Self::PosixSpawn
                | Self::PythonAsyncio
                | Self::Node
                | Self::Go
                | Self::Libuv
        )
    }

    /// Whether it is another program, in another language.
    pub(crate) fn is_external(self) -> bool {
        matches!(
            self,
            Self::PythonAsyncio | Self::Node | Self::Go | Self::Libuv | Self::SdEvent
        )
    }

    /// Whether it is a lower bound that has none of exitring's features.
    pub(crate) fn is_floor(self) -> bool {
        matches!(self, Self::PollFloor | Self::PollFloorWorker)
    }

    /// Whether it is exitring with another way to start programs.
    pub(crate) fn is_starter(self) -> bool {
        matches!(
            self,
            Self::ExitringStd | Self::ExitringPreExec | Self::ExitringCgroup
        )
    }

    /// Whether it is the service with its clients.
    pub(crate) fn is_service(self) -> bool {
        matches!(self, Self::Serve | Self::ServePower)
    }

    /// Whether it is the library with a ring. There a watch without a callback needs no descriptor.
    pub(crate) fn has_watches_without_callback(self) -> bool {
        matches!(
            self,
            Self::Exitring | Self::ExitringInline | Self::ExitringNoUsage | Self::ExitringWatch
        )
    }

    /// The number of descriptors that it holds per child.
    pub(crate) fn descriptors_per_child(self) -> u64 {
        match self {
            Self::ExitringEpoll
            | Self::Shadow
            | Self::Tokio
            | Self::AsyncProcess
            | Self::PythonAsyncio
            | Self::Go
            | Self::SdEvent => 1,
            _ => 0,
        }
    }

    /// The number of processes and threads per child, with the child.
    pub(crate) fn tasks_per_child(self) -> u64 {
        match self {
            Self::ThreadPerChild => 2,
            _ => 1,
        }
    }
}
