//! The cgroup of a process that the service starts: its limits, and what it has counted.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// The limits of a process together with all its descendants. Without any limit the process still
/// has a cgroup of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CgroupLimits {
    /// Memory, in bytes, of which none may be swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Processes and threads at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// CPU time, as a number of CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
}

/// A number of CPUs, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cpus(u32);

impl Cpus {
    /// A number of CPUs, rounded to thousandths. `None` if it is below a thousandth or above four
    /// million.
    pub fn new(count: f64) -> Option<Self> {
        let thousandths = (count * 1000.0).round();
        let is_valid = (1.0..=f64::from(u32::MAX)).contains(&thousandths);
        is_valid.then_some(Self(thousandths as u32))
    }

    /// The number.
    pub fn count(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

impl JsonSchema for Cpus {
    fn schema_name() -> Cow<'static, str> {
        "Cpus".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of CPUs, rounded to thousandths.",
            "type": "number",
            "exclusiveMinimum": 0,
        })
    }
}

impl Serialize for Cpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.count())
    }
}

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;

        impl Visitor<'_> for Value {
            type Value = Cpus;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of CPUs, from 0.001 to 4000000")
            }

            fn visit_f64<E: de::Error>(self, count: f64) -> Result<Cpus, E> {
                let unexpected = || E::invalid_value(de::Unexpected::Float(count), &self);
                Cpus::new(count).ok_or_else(unexpected)
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Cpus, E> {
                self.visit_f64(count as f64)
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Cpus, E> {
                self.visit_f64(count as f64)
            }
        }

        deserializer.deserialize_any(Value)
    }
}

/// What the cgroup of a process reported when the process had ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CgroupUsage {
    /// How many processes the process has left. A lower bound if there are many thousands. After a
    /// timeout they are killed.
    pub leftover: u64,
    /// The most memory that all processes used at a time, in bytes, if there is a limit of memory
    /// (Linux 5.19).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// How many processes were killed because memory ran out, if there is a limit of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_numbers_above_zero() {
        let parse = |text: &str| serde_json::from_str::<Cpus>(text).ok();
        assert_eq!(parse("1.5"), Cpus::new(1.5));
        assert_eq!(parse("2").map(Cpus::count), Some(2.0));
        assert_eq!(parse("0.001").map(Cpus::count), Some(0.001));
        for wrong in ["0", "-1", "0.0001", "1e300", "\"1\"", "null"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(Cpus::new(f64::NAN), None);
        let limits = CgroupLimits {
            cpus: Cpus::new(0.25),
            ..CgroupLimits::default()
        };
        let line = serde_json::to_string(&limits).expect("it has no maps");
        assert_eq!(line, r#"{"cpus":0.25}"#);
        assert_eq!(
            serde_json::from_str::<CgroupLimits>(&line).ok(),
            Some(limits)
        );
    }
}
