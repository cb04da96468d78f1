//! The command line of `exitring serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::store::Durability;

const EXAMPLES: &str = "\
Examples:
  exitring serve --socket /run/exitring/socket --state /var/lib/exitring
  exitring serve --socket /tmp/x/socket --state /tmp/x/state --durability power --metrics 127.0.0.1:9100
  exitring exits --socket /run/exitring/socket --follow

The protocol is described in docs/PROTOCOL.md.

Signals: SIGTERM stops the service, but not the processes that it has started. SIGUSR2 makes it \
execute itself again in place, for example after an update.

Restart: the service restores its live watches. Of a process that has ended meanwhile, it records \
what the kernel still reports.

Environment: RUST_LOG selects what is logged (error, warn, info, debug).

Exit code: 0 after a signal; 2 if it cannot start, or if its state folder was deleted.";

/// How many descriptors the service needs besides those of clients.
pub(super) const DESCRIPTORS_SPARE: u64 = 256;

#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeOptions {
    /// Socket that clients connect to; its folder must exist (under socket activation, systemd's
    /// socket is used)
    #[arg(long, value_name = "PATH", env = "EXITRING_SOCKET")]
    pub(crate) socket: PathBuf,

    /// Folder for the state that outlives the service; created if needed
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,

    /// Permissions of the socket, as for chmod; other users are refused unless root runs the
    /// service
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = parse_mode)]
    pub(crate) mode: u32,

    /// What a record survives once it is published
    #[arg(long, value_enum, default_value_t = Durability::Process)]
    pub(crate) durability: Durability,

    /// Number of unacknowledged records to keep; beyond it the oldest of the user with the most
    /// records are dropped, and their number is reported
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) keep: u64,

    /// How long to keep unacknowledged records
    #[arg(long, value_name = "TIME", default_value = "168h", value_parser = crate::duration::parse)]
    pub(crate) keep_for: Duration,

    /// Maximum number of clients; every user but the service's own may have a quarter of them
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) clients: u32,

    /// Maximum number of live watches of one user
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) watches_per_user: u32,

    /// Maximum number of live watches of all users
    #[arg(long, value_name = "N", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) watches: u32,

    /// Maximum length of a line
    #[arg(long, value_name = "BYTES", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(256..=16_777_216))]
    pub(crate) line: u32,

    /// Number of the newest records to keep also in memory
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) tail: u32,

    /// Serve OpenMetrics text at http://ADDRESS/metrics; a loopback address
    #[arg(long, value_name = "ADDRESS", value_parser = parse_loopback)]
    pub(crate) metrics: Option<SocketAddr>,

    /// Log as lines of JSON
    #[arg(long)]
    pub(crate) log_json: bool,
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
