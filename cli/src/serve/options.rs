//! The options of `exitring serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::cgroups::CgroupOption;
use super::store::Durability;

const EXAMPLES: &str = "\
Examples:
  exitring serve --socket /run/exitring/socket --state /var/lib/exitring
  exitring exits --socket /run/exitring/socket --follow

Exit status: 0 the service was asked to end; 2 it cannot start, or its state directory was deleted.

The protocol is in docs/PROTOCOL.md.";

/// Descriptors for pidfds, sockets and files besides those of clients.
pub(super) const DESCRIPTORS_SPARE: u64 = 256;

/// Serve exits to other processes over a Unix socket, durably
///
/// SIGTERM ends the service, but not the processes that it has started. SIGUSR2 makes it execute
/// itself again, for example after an update. When it starts again with the same state, it resumes:
/// exits that happened meanwhile are recorded, with the status where the kernel still reports it.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeOptions {
    /// The socket to listen on
    ///
    /// Its directory must exist. Under socket activation the socket of systemd is used.
    #[arg(
        long,
        value_name = "PATH",
        env = "EXITRING_SOCKET",
        hide_env_values = true
    )]
    pub(crate) socket: PathBuf,

    /// The state directory, which outlives the service
    ///
    /// It is created if it does not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,

    /// Who may connect, as for chmod
    ///
    /// Other users are refused in any case, unless root runs the service.
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = parse_mode)]
    pub(crate) mode: u32,

    /// process (default) or power: what records survive
    ///
    /// process: a record, once delivered, survives crashes of the service. power: it also survives
    /// a power failure, and each commit waits for the disk.
    #[arg(
        long,
        value_name = "LEVEL",
        value_enum,
        default_value_t = Durability::Process,
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub(crate) durability: Durability,

    /// A delegated cgroup, for processes with a cgroup
    ///
    /// The directory of a cgroup v2 that holds no process; or "own", the cgroup of the service, which
    /// then moves itself to a sub-group. Without it such requests are refused.
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<CgroupOption>,

    /// Serve OpenMetrics text at http://ADDRESS/metrics
    ///
    /// ADDRESS is a loopback address and a port.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_loopback)]
    pub(crate) metrics: Option<SocketAddr>,

    /// Log as lines of JSON
    ///
    /// RUST_LOG chooses what is logged: error, warn, info or debug.
    #[arg(long)]
    pub(crate) log_json: bool,

    /// Unacknowledged records to keep
    ///
    /// Beyond that the oldest records of the user with the most are dropped, which is reported.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000), help_heading = "Limits")]
    pub(crate) keep: u64,

    /// How long to keep them
    #[arg(long, value_name = "TIME", default_value = "168h", value_parser = crate::duration::parse, help_heading = "Limits")]
    pub(crate) keep_for: Duration,

    /// Clients at a time
    ///
    /// A user other than that of the service may have a quarter of them.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Limits")]
    pub(crate) clients: u32,

    /// Live watches of one user
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Limits")]
    pub(crate) watches_per_user: u32,

    /// Live watches of all users
    #[arg(long, value_name = "N", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Limits")]
    pub(crate) watches: u32,

    /// Bytes in a line
    #[arg(long, value_name = "BYTES", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(256..=16_777_216), help_heading = "Limits")]
    pub(crate) line: u32,

    /// Newest records kept in memory
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=10_000_000), help_heading = "Limits")]
    pub(crate) tail: u32,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("expected an octal mode, like 0600 or 0666".into()),
    }
}

fn parse_loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "expected an address and a port, like 127.0.0.1:9100")?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("expected a loopback address, like 127.0.0.1:9100".into()),
    }
}
