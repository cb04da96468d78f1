//! The lines of both sides, for the JSON schema.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Request, RequestId, ServerLine};

/// One line from a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientLine {
    /// The name that the client gives the request. The answer repeats it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    /// The request.
    #[serde(flatten)]
    pub request: Request,
}

/// All lines of the protocol.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Schema {
    /// A line of a client.
    pub client: ClientLine,
    /// A line of the service.
    pub service: ServerLine,
}
