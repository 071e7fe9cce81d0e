//! YAML as the API server reads it: turned into the JSON it stands for.

use serde::de::DeserializeSeed;
use serde_json::Value;

use crate::json::Strict;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SyntaxError(String);

/// Parses one YAML document. Duplicate fields are reported as in [`crate::json::parse_strict`]; JSON is YAML too.
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), SyntaxError> {
    let mut duplicates = Vec::new();
    let mut path = String::new();
    let seed = Strict { path: &mut path, duplicates: &mut duplicates };
    let value = seed
        .deserialize(serde_yaml_ng::Deserializer::from_slice(bytes))
        .map_err(|e| SyntaxError(format!("error converting YAML to JSON: yaml: {e}")))?;
    Ok((value, duplicates))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_is_the_json_it_stands_for() {
        let check = |text: &str, value: Value, duplicates: usize| {
            let (got, found) = parse(text.as_bytes()).expect("valid YAML");
            assert_eq!((got, found.len()), (value, duplicates), "{text}");
        };
        check("a: 1\nb: [x, 'y', \"z\"]\n", json!({"a": 1, "b": ["x", "y", "z"]}), 0);
        check("1: one\ntrue: yes it is\n", json!({"1": "one", "true": "yes it is"}), 0);
        check("a: &x {b: 1}\nc: *x\n", json!({"a": {"b": 1}, "c": {"b": 1}}), 0);
        check("a: 1\na: 2\n", json!({"a": 2}), 1);
        check("{\"a\": null}", json!({"a": null}), 0);
        check("a: |\n  x\n  y\n", json!({"a": "x\ny\n"}), 0);
    }

    #[test]
    fn what_is_not_yaml_is_an_error() {
        for text in ["a: b: c", "[", "a: *x", "? [a]\n: b"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse("[".repeat(10_000).as_bytes()).is_err());
    }
}
