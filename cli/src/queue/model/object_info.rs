//! The description of an object in an object store of JetStream (ADR-20 of NATS).

use base64::prelude::{BASE64_URL_SAFE, Engine as _};
use serde::{Deserialize, Serialize};

/// The description, which is stored after the last chunk.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ObjectInfo {
    pub(crate) name: String,
    pub(crate) bucket: String,
    /// The part of the subject of its chunks that no other object has.
    pub(crate) nuid: String,
    pub(crate) size: u64,
    pub(crate) chunks: u64,
    pub(crate) digest: String,
    /// As in RFC 3339.
    pub(crate) mtime: String,
}

impl ObjectInfo {
    /// The subject of the description of an object.
    pub(crate) fn subject(bucket: &str, name: &str) -> String {
        format!("$O.{bucket}.M.{}", BASE64_URL_SAFE.encode(name))
    }

    /// The subject of the chunks.
    pub(crate) fn chunk_subject(bucket: &str, nuid: &str) -> String {
        format!("$O.{bucket}.C.{nuid}")
    }

    pub(crate) fn digest(hash: &[u8]) -> String {
        format!("SHA-256={}", BASE64_URL_SAFE.encode(hash))
    }
}
