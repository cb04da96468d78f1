//! Resources with a limit.

use std::fmt;

/// A resource that [`Command::limit`](super::Command::limit) limits (`getrlimit(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// CPU time, in seconds.
    Cpu,
    /// The size of files that the process writes, in bytes.
    FileSize,
    /// The data segment, in bytes.
    Data,
    /// The stack of the main thread, in bytes.
    Stack,
    /// The size of core dumps, in bytes.
    Core,
    /// The processes and threads of the user. Root is exempt.
    Processes,
    /// Open descriptors: one more than the highest number.
    OpenFiles,
    /// Memory locked with `mlock(2)`, in bytes.
    LockedMemory,
    /// The address space, in bytes.
    AddressSpace,
    /// Signals that are queued for the user.
    PendingSignals,
    /// POSIX message queues, in bytes.
    MessageQueues,
    /// The highest priority that `nice(2)` may set: 20 minus this value.
    Nice,
    /// The highest real-time priority.
    RealtimePriority,
    /// Real-time CPU time without a blocking system call, in microseconds.
    RealtimeTime,
}

impl Resource {
    pub(crate) fn as_rustix(self) -> rustix::process::Resource {
        use rustix::process::Resource as Kernel;
        match self {
            Self::Cpu => Kernel::Cpu,
            Self::FileSize => Kernel::Fsize,
            Self::Data => Kernel::Data,
            Self::Stack => Kernel::Stack,
            Self::Core => Kernel::Core,
            Self::Processes => Kernel::Nproc,
            Self::OpenFiles => Kernel::Nofile,
            Self::LockedMemory => Kernel::Memlock,
            Self::AddressSpace => Kernel::As,
            Self::PendingSignals => Kernel::Sigpending,
            Self::MessageQueues => Kernel::Msgqueue,
            Self::Nice => Kernel::Nice,
            Self::RealtimePriority => Kernel::Rtprio,
            Self::RealtimeTime => Kernel::Rttime,
        }
    }
}

impl fmt::Display for Resource {
    /// The name in `getrlimit(2)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "RLIMIT_CPU",
            Self::FileSize => "RLIMIT_FSIZE",
            Self::Data => "RLIMIT_DATA",
            Self::Stack => "RLIMIT_STACK",
            Self::Core => "RLIMIT_CORE",
            Self::Processes => "RLIMIT_NPROC",
            Self::OpenFiles => "RLIMIT_NOFILE",
            Self::LockedMemory => "RLIMIT_MEMLOCK",
            Self::AddressSpace => "RLIMIT_AS",
            Self::PendingSignals => "RLIMIT_SIGPENDING",
            Self::MessageQueues => "RLIMIT_MSGQUEUE",
            Self::Nice => "RLIMIT_NICE",
            Self::RealtimePriority => "RLIMIT_RTPRIO",
            Self::RealtimeTime => "RLIMIT_RTTIME",
        })
    }
}
