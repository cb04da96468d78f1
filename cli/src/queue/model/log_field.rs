//! Where the whole log of a job is (`--log nats`), in its record.

use serde::{Deserialize, Serialize};

/// The field `log` of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogField {
    /// The name of the two objects without their endings, `.out` and `.err`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// An empty stream has no object.
    #[serde(default)]
    pub(crate) stdout_bytes: u64,
    #[serde(default)]
    pub(crate) stderr_bytes: u64,
    /// Why there is no log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) missing: Option<String>,
}

impl LogField {
    /// The record with this field.
    pub(crate) fn add_to(&self, mut record: Vec<u8>) -> Vec<u8> {
        // It consists of strings and numbers, which JSON can represent.
        let field = serde_json::to_vec(self).unwrap_or_default();
        if record.pop_if(|last| *last == b'}').is_some() {
            record.extend(b",\"log\":");
            record.extend(field);
            record.push(b'}');
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_one_more_field() {
        let field = LogField {
            name: Some("a".into()),
            stdout_bytes: 1,
            ..LogField::default()
        };
        let record = field.add_to(b"{\"job\":7}".to_vec());
        let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
        assert_eq!(record["job"], 7);
        let read: LogField = serde_json::from_value(record["log"].clone()).expect("a field");
        assert_eq!(read, field);
    }
}
