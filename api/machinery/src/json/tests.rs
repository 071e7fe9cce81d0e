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

#[track_caller]
fn refused(text: &str, why: &str) {
    assert_eq!(parse_strict(text.as_bytes()).map_err(|error| error.to_string()), Err(why.to_owned()), "{text}");
}

/// The words of Go's encoding/json (`scanner.go`, `decode.go`).
#[test]
fn what_is_no_json_is_told_as_clients_know_it() {
    for text in ["", "{", "{\"a\":", "[1,", "\"x", "nul", "{\n"] {
        refused(text, "unexpected end of JSON input");
    }
    refused("x", "invalid character 'x' looking for beginning of value");
    refused("{\"a\": x}", "invalid character 'x' looking for beginning of value");
    refused("{\n \"a\":\n }", "invalid character '}' looking for beginning of value");
    refused("{a: 1}", "invalid character 'a' looking for beginning of object key string");
    refused("{1: 2}", "invalid character '1' looking for beginning of object key string");
    refused("{\"a\": 1,}", "invalid character '}' looking for beginning of object key string");
    refused("[1,]", "invalid character ']' looking for beginning of value");
    refused("{\"a\" 1}", "invalid character '1' after object key");
    refused("{\"a\": 1 \"b\"}", "invalid character '\"' after object key:value pair");
    refused("[1 2]", "invalid character '2' after array element");
    refused("{} {}", "invalid character '{' after top-level value");
    refused("{}'", "invalid character '\\'' after top-level value");
    refused("nonsense", "invalid character 'o' in literal null (expecting 'u')");
    refused("[trux]", "invalid character 'x' in literal true (expecting 'e')");
    refused("\"\\x\"", "invalid character 'x' in string escape code");
    refused("\"a\nb\"", "invalid character '\\n' in string literal");
}

#[test]
fn an_object_may_hold_anything() {
    let check = |text: &str| check_object(text.as_bytes()).map_err(|error| error.to_string());
    assert_eq!(check("{\"auths\": {}}"), Ok(()));
    assert_eq!(check("{"), Err("unexpected end of JSON input".to_owned()));
    let why = "json: cannot unmarshal array into Go value of type map[string]interface {}";
    assert_eq!(check("[]"), Err(why.to_owned()));
}

#[test]
fn what_is_not_one_json_value_is_an_error() {
    for text in ["", "{", "{} {}", r#"{"a"}"#, "{a: 1}", r#"{1: 2}"#, "nul"] {
        assert!(parse_strict(text.as_bytes()).is_err(), "{text}");
    }
    let deep = "[".repeat(100_000);
    assert!(parse_strict(deep.as_bytes()).is_err());
}
