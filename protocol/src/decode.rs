//! Parses lines of clients, which may contain anything.

use std::cell::Cell;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::{Code, Error, Request, RequestId};

/// How many bytes a line may have, unless the service is configured otherwise.
pub const LINE_MAX: usize = 64 * 1024;

/// How deep objects and arrays may be nested. The deepest request has three levels.
pub const DEPTH_MAX: usize = 16;

/// How many bytes the `id` of a line may have.
const ID_MAX: usize = 64;

/// A decoded line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The name that the client gives the request, if it could be read.
    pub id: Option<RequestId>,
    /// The request, or what is wrong with the line.
    pub request: Result<Request, Error>,
}

/// Decodes a line (without its end). Never panics, and uses memory in proportion to the line.
pub fn decode(line: &[u8]) -> Decoded {
    // First, because the parser recurses.
    if depth(line) > DEPTH_MAX {
        return Decoded {
            id: None,
            request: Err(Error::new(
                Code::TooDeep,
                format!("the line is nested more than {DEPTH_MAX} levels deep"),
            )),
        };
    }
    match serde_json::from_slice::<Value>(line) {
        Ok(Value::Object(fields)) => decode_object(fields),
        Ok(_) => Decoded {
            id: None,
            request: Err(Error::new(
                Code::BadRequest,
                "the line is not a JSON object, as requests are: {\"id\": 1, \"op\": \"stats\"}",
            )),
        },
        Err(error) => Decoded {
            id: id_before_the_error(line),
            request: Err(Error::new(
                Code::BadJson,
                format!("the line is not JSON: {error}"),
            )),
        },
    }
}

fn decode_object(mut fields: Map<String, Value>) -> Decoded {
    let id = match fields.remove("id") {
        None | Some(Value::Null) => None,
        Some(value) => match request_id(value) {
            Some(id) => Some(id),
            None => {
                let message = format!(
                    "the id is neither a number from 0 on nor a text of at most {ID_MAX} bytes"
                );
                let request = Err(Error::new(Code::BadRequest, message));
                return Decoded { id: None, request };
            }
        },
    };
    let request = serde_json::from_value(Value::Object(fields))
        .map_err(|error| Error::new(Code::BadRequest, format!("no such request: {error}")));
    Decoded { id, request }
}

fn request_id(value: Value) -> Option<RequestId> {
    match value {
        Value::Number(number) => number.as_u64().map(RequestId::Number),
        Value::String(text) if text.len() <= ID_MAX => Some(RequestId::Text(text)),
        _ => None,
    }
}

/// How deep a line of JSON is nested. For other lines the number means nothing.
fn depth(line: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for byte in line {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'{' | b'[') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The `id` of a line that is not JSON, if it comes before the error.
fn id_before_the_error(line: &[u8]) -> Option<RequestId> {
    struct Probe<'a>(&'a Cell<Option<RequestId>>);

    impl<'de> Visitor<'de> for Probe<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<String>()? {
                if key == "id" {
                    self.0.set(request_id(map.next_value()?));
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(())
        }
    }

    let id = Cell::new(None);
    // It fails, as the line is not JSON.
    let _ = serde_json::Deserializer::from_slice(line).deserialize_map(Probe(&id));
    id.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Acknowledge, Hello, Watch};

    fn code(line: &str) -> (Option<RequestId>, Code) {
        let decoded = decode(line.as_bytes());
        let error = decoded.request.expect_err("the line is wrong");
        (decoded.id, error.code)
    }

    #[test]
    fn requests_are_decoded() {
        let decoded = decode(br#"{"id": 7, "op": "ack", "upto": 12}"#);
        assert_eq!(decoded.id, Some(RequestId::Number(7)));
        assert_eq!(decoded.request, Ok(Request::Ack(Acknowledge { upto: 12 })));
        let decoded = decode(br#"{"op": "hello", "version": 1, "id": "x"}"#);
        assert_eq!(decoded.id, Some(RequestId::Text("x".into())));
        let hello = Hello {
            version: 1,
            client: None,
        };
        assert_eq!(decoded.request, Ok(Request::Hello(hello)));
        let decoded = decode(br#"{"op": "watch", "pid": 3}"#);
        let watch = Watch {
            pid: Some(3),
            ..Watch::default()
        };
        assert_eq!(decoded.request, Ok(Request::Watch(watch)));
    }

    #[test]
    fn errors_carry_the_id_of_the_line_if_it_can_be_read() {
        let seven = Some(RequestId::Number(7));
        assert_eq!(code(""), (None, Code::BadJson));
        assert_eq!(code("{\"id\": 7, \"op\": "), (seven.clone(), Code::BadJson));
        assert_eq!(code("{\"op\": }, \"id\": 7"), (None, Code::BadJson));
        assert_eq!(code("[1]"), (None, Code::BadRequest));
        assert_eq!(code(r#"{"id": 7}"#), (seven.clone(), Code::BadRequest));
        assert_eq!(
            code(r#"{"id": 7, "op": "dance"}"#),
            (seven.clone(), Code::BadRequest)
        );
        assert_eq!(
            code(r#"{"id": 7, "op": "stats", "much": 1}"#),
            (seven.clone(), Code::BadRequest)
        );
        assert_eq!(
            code(r#"{"id": 7, "op": "watch", "pid": 3000000000}"#),
            (seven, Code::BadRequest)
        );
        assert_eq!(code(r#"{"id": -7, "op": "stats"}"#).1, Code::BadRequest);
        let long = format!(r#"{{"id": "{}", "op": "stats"}}"#, "x".repeat(65));
        assert_eq!(code(&long), (None, Code::BadRequest));
    }

    #[test]
    fn nesting_is_bounded_and_brackets_in_strings_do_not_count() {
        let deep = format!("{}{}", "[".repeat(60_000), "]".repeat(60_000));
        assert_eq!(code(&deep), (None, Code::TooDeep));
        assert_eq!(code(&"{\"a\":".repeat(17)).1, Code::TooDeep);
        let text = format!(
            r#"{{"op": "watch", "pid": 1, "tag": "{}\"{}"}}"#,
            "[".repeat(50),
            "{".repeat(50)
        );
        assert!(decode(text.as_bytes()).request.is_ok());
    }
}
