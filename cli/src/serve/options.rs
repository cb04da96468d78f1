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

The protocol is in docs/PROTOCOL.md. SIGTERM ends the service, and not what it has started; SIGUSR2 has it execute itself
anew, after an update for one. Started again it goes on: what ended meanwhile is recorded as well as the kernel still tells.
RUST_LOG chooses what is logged (error, warn, info, debug).

Exit code: 0 when it was told to end; 2 if it cannot start, or its state folder was deleted under it.";

/// How many pidfds, sockets and files there are besides clients.
pub(super) const DESCRIPTORS_SPARE: u64 = 256;

#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeOptions {
    /// The socket that clients connect to; its folder has to be there (under socket activation, systemd's is taken)
    #[arg(long, value_name = "PATH", env = "EXITRING_SOCKET")]
    pub(crate) socket: PathBuf,

    /// The folder for what outlives the service; made if need be
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,

    /// Who may connect, as for chmod; other users are refused unless root runs the service
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = parse_mode)]
    pub(crate) mode: u32,

    /// What a record survives from the moment it is told
    #[arg(long, value_enum, default_value_t = Durability::Process)]
    pub(crate) durability: Durability,

    /// Unacknowledged records that are kept; beyond, the oldest of the user who has most are dropped, and that is said
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) keep: u64,

    /// For how long unacknowledged records are kept
    #[arg(long, value_name = "TIME", default_value = "168h", value_parser = crate::duration::parse)]
    pub(crate) keep_for: Duration,

    /// Clients at a time; a user other than the service's own may have a quarter of them
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) clients: u32,

    /// Live watches of one user
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) watches_per_user: u32,

    /// Live watches of all users
    #[arg(long, value_name = "N", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) watches: u32,

    /// Bytes in a line
    #[arg(long, value_name = "BYTES", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(256..=16_777_216))]
    pub(crate) line: u32,

    /// The newest records are kept in memory, too: so many
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) tail: u32,

    /// Serve OpenMetrics text at http://ADDRESS/metrics; of this machine only
    #[arg(long, value_name = "ADDRESS", value_parser = parse_loopback)]
    pub(crate) metrics: Option<SocketAddr>,

    /// Log lines of JSON
    #[arg(long)]
    pub(crate) log_json: bool,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("it is no mode like 0600 or 0666".into()),
    }
}

fn parse_loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "it is no address and port like 127.0.0.1:9100")?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("only a loopback address is served, like 127.0.0.1:9100".into()),
    }
}
