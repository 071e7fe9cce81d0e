//! YAML as the API server reads it: turned into the JSON it stands for.

mod twice;

use serde::de::DeserializeSeed;
use serde_json::Value;

use crate::json::Strict;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SyntaxError(String);

/// Parses one YAML document; JSON is YAML too. Of duplicate keys the last wins; they are reported as upstream's parser words it:
/// `line 3: key "replicas" already set in map`.
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
    if duplicates.is_empty() {
        return Ok((value, duplicates));
    }
    let lines = twice::lines(bytes);
    Ok((value, if lines.is_empty() { duplicates } else { lines }))
}

/// Whether this is the report of a duplicate key in YAML.
pub fn is_line(report: &str) -> bool {
    report.starts_with("line ")
}

/// What is wrong with a body as one text; reports of its YAML, if there are any, come first.
pub fn strict_error(reports: &[String]) -> String {
    let (lines, others) = reports.split_at(reports.iter().take_while(|report| is_line(report)).count());
    let of_yaml = (!lines.is_empty()).then(|| format!("yaml: unmarshal errors:\n  {}", lines.join("\n  ")));
    of_yaml.into_iter().chain(others.iter().cloned()).collect::<Vec<_>>().join(", ")
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
        check("a: {b: 1, c: 2}\nd: [{e: 1}, {e: 2}]\n", json!({"a": {"b": 1, "c": 2}, "d": [{"e": 1}, {"e": 2}]}), 0);
        check("{\"a\": null}", json!({"a": null}), 0);
        check("a: |\n  x\n  y\n", json!({"a": "x\ny\n"}), 0);
    }

    #[test]
    fn duplicate_keys_are_named_with_their_lines() {
        let check = |text: &str, expected: &[&str]| {
            let (_, found) = parse(text.as_bytes()).expect("valid YAML");
            assert_eq!(found, expected, "{text}");
        };
        check("a: 1\nb: 2\na: 3\n", &["line 3: key \"a\" already set in map"]);
        let nested = "spec:\n  x: 1\n  y:\n  - z: 1\n    z: 2\n  x: 3\n1: a\n1: b\n";
        let expected = ["line 5: key \"z\"", "line 6: key \"x\"", "line 8: key \"1\""];
        check(nested, &expected.map(|at| format!("{at} already set in map")).each_ref().map(String::as_str));
        assert_eq!(parse("a: 1\n".repeat(1_000).as_bytes()).expect("valid YAML").1.len(), 16);
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
