//! The two sides as JSON schemas.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Request, RequestId, ServerLine};

/// One line from a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientLine {
    /// What the client calls it, given back with the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    /// What it asks for.
    #[serde(flatten)]
    pub request: Request,
}

/// All lines of the protocol.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Schema {
    /// What clients write.
    pub client: ClientLine,
    /// What the service writes.
    pub service: ServerLine,
}
