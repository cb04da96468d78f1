//! The machine and the build of a measurement.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Environment {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    /// Soft and hard limit on descriptors (`ulimit -n`).
    pub(crate) nofile: Option<u64>,
    pub(crate) nofile_hard: Option<u64>,
    /// Soft limit on processes (`ulimit -u`).
    pub(crate) nproc: Option<u64>,
    pub(crate) pid_max: Option<u64>,
    /// The backend of exitring, or the reason why it has none.
    pub(crate) backend: String,
    /// How the load generator was built.
    pub(crate) build: String,
    /// Versions of exitring and of the libraries that it is compared with.
    pub(crate) versions: BTreeMap<String, String>,
}
