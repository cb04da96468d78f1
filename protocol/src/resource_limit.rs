//! Resource limits of a process that the service starts.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A resource with a limit, by its name in `getrlimit(2)` without `RLIMIT_`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// CPU time, in seconds.
    Cpu,
    /// The size of files that the process writes, in bytes.
    Fsize,
    /// The data segment, in bytes.
    Data,
    /// The stack of the main thread, in bytes.
    Stack,
    /// The size of core dumps, in bytes.
    Core,
    /// The processes and threads of the user. Root is exempt.
    Nproc,
    /// Open descriptors: one more than the highest number.
    Nofile,
    /// Memory locked with `mlock(2)`, in bytes.
    Memlock,
    /// The address space, in bytes.
    As,
    /// Signals that are queued for the user.
    Sigpending,
    /// POSIX message queues, in bytes.
    Msgqueue,
    /// The highest priority that `nice(2)` may set: 20 minus this value.
    Nice,
    /// The highest real-time priority.
    Rtprio,
    /// Real-time CPU time without a blocking system call, in microseconds.
    Rttime,
}

impl Resource {
    /// All resources.
    pub const ALL: [Self; 14] = [
        Self::Cpu,
        Self::Fsize,
        Self::Data,
        Self::Stack,
        Self::Core,
        Self::Nproc,
        Self::Nofile,
        Self::Memlock,
        Self::As,
        Self::Sigpending,
        Self::Msgqueue,
        Self::Nice,
        Self::Rtprio,
        Self::Rttime,
    ];

    /// The name in lines of the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Fsize => "fsize",
            Self::Data => "data",
            Self::Stack => "stack",
            Self::Core => "core",
            Self::Nproc => "nproc",
            Self::Nofile => "nofile",
            Self::Memlock => "memlock",
            Self::As => "as",
            Self::Sigpending => "sigpending",
            Self::Msgqueue => "msgqueue",
            Self::Nice => "nice",
            Self::Rtprio => "rtprio",
            Self::Rttime => "rttime",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The limit of one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceLimit {
    /// The limit that the kernel enforces. Default: that of the service, or the hard limit if that
    /// is lower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft: Option<LimitValue>,
    /// The limit up to which the process may raise the soft limit. Default: that of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard: Option<LimitValue>,
}

/// The value of a limit: a number, or `"unlimited"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum LimitValue {
    /// No limit.
    Unlimited,
    /// A number, in the unit of the resource.
    #[schemars(untagged)]
    Number(u64),
}

impl Serialize for LimitValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unlimited => serializer.serialize_str("unlimited"),
            Self::Number(number) => serializer.serialize_u64(*number),
        }
    }
}

impl<'de> Deserialize<'de> for LimitValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;

        impl Visitor<'_> for Value {
            type Value = LimitValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 0 on, or \"unlimited\"")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<LimitValue, E> {
                Ok(LimitValue::Number(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<LimitValue, E> {
                match text {
                    "unlimited" => Ok(LimitValue::Unlimited),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_resources_are_those_in_lines() {
        for resource in Resource::ALL {
            let line = serde_json::to_value(resource).expect("it is a string");
            assert_eq!(line, resource.name());
        }
    }

    #[test]
    fn a_limit_is_a_number_or_unlimited() {
        let parse = |text: &str| serde_json::from_str::<ResourceLimit>(text);
        let limit = ResourceLimit {
            soft: Some(LimitValue::Number(0)),
            hard: Some(LimitValue::Unlimited),
        };
        let line = r#"{"soft":0,"hard":"unlimited"}"#;
        assert_eq!(parse(line).expect("it is valid"), limit);
        assert_eq!(serde_json::to_string(&limit).expect("it is valid"), line);
        assert_eq!(parse("{}").expect("it is valid"), ResourceLimit::default());
        for wrong in [
            r#"{"soft":-1}"#,
            r#"{"soft":1.5}"#,
            r#"{"soft":"1"}"#,
            r#"{"soft":true}"#,
            r#"{"hard":[]}"#,
            r#"{"max":1}"#,
            "1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let message = parse(r#"{"soft":-1}"#).expect_err("it is refused");
        assert!(message.to_string().contains("unlimited"), "{message}");
    }
}
