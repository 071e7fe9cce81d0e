//! YAML as the API server reads it: turned into the JSON it stands for.

use serde::de::DeserializeSeed;
use serde_json::Value;

use crate::json::Strict;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SyntaxError(String);

/// Parses one YAML document. Duplicate fields are reported as in [`crate::json::parse_strict`]; JSON is YAML too.
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), SyntaxError> {
    if is_too_deep(bytes) {
        return Err(SyntaxError("error converting YAML to JSON: yaml: exceeded max depth".to_owned()));
    }
    let mut duplicates = Vec::new();
    let mut path = String::new();
    let seed = Strict { path: &mut path, duplicates: &mut duplicates };
    let value = seed
        .deserialize(serde_yaml_ng::Deserializer::from_slice(bytes))
        .map_err(|e| SyntaxError(format!("error converting YAML to JSON: yaml: {e}")))?;
    Ok((value, duplicates))
}

/// Steps of the scanner below, of which it does about 10^9 in a second.
const STEPS_MAX: usize = 100_000_000;

/// libyaml looks at every open flow collection for every token (`yaml_parser_stale_simple_keys`): a megabyte of brackets would take
/// it hours. This counts what it would look at, and also brackets that are text, which nest so deep in no text that is sane.
fn is_too_deep(bytes: &[u8]) -> bool {
    let (mut depth, mut steps) = (0_usize, 0_usize);
    for byte in bytes {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' | b':' => {}
            _ => continue,
        }
        steps = steps.saturating_add(depth);
    }
    steps > STEPS_MAX
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
        let wide = format!("{}{}", "[".repeat(5_000), "a, ".repeat(500_000));
        for text in ["[".repeat(1 << 20), "{a: ".repeat(1 << 18), wide] {
            assert!(parse(text.as_bytes()).is_err_and(|e| e.0.ends_with("exceeded max depth")));
        }
        let text = "- [ not closed {\n".repeat(2_000);
        assert!(parse(format!("script: |\n  {}", text.replace('\n', "\n  ")).as_bytes()).is_ok());
    }
}
