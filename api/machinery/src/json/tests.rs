use serde_json::json;

use super::*;

#[test]
fn duplicate_fields_are_named_by_their_path() {
    let check = |text: &str, value: Value, duplicates: &[&str]| {
        let (got, found) = parse_strict(text.as_bytes()).expect("valid JSON");
        assert_eq!(got, value, "{text}");
        assert_eq!(found, duplicates, "{text}");
    };
    check(r#"{"a":{"b":1,"b":2}}"#, json!({"a": {"b": 2}}), &["duplicate field \"a.b\""]);
    check(r#"{"a":[{},{"b":1,"b":2}]}"#, json!({"a": [{}, {"b": 2}]}), &["duplicate field \"a[1].b\""]);
    check(r#"{"a":1,"a":1,"a":1}"#, json!({"a": 1}), &["duplicate field \"a\""]);
    check(
        r#"{"a":-1,"b":1.5,"c":null,"d":18446744073709551615}"#,
        json!({"a": -1, "b": 1.5, "c": null, "d": u64::MAX}),
        &[],
    );
}

#[test]
fn what_is_not_one_json_value_is_an_error() {
    for text in ["", "{", "{} {}", r#"{"a"}"#, "{a: 1}", r#"{1: 2}"#, "nul"] {
        assert!(parse_strict(text.as_bytes()).is_err(), "{text}");
    }
    let deep = "[".repeat(100_000);
    assert!(parse_strict(deep.as_bytes()).is_err());
}
