use serde_json::json;

use super::*;

/// A length-delimited field.
fn lengthy(number: u8, inner: &[u8]) -> Vec<u8> {
    let mut made = vec![number << 3 | 2, u8::try_from(inner.len()).expect("short")];
    made.extend_from_slice(inner);
    made
}

fn text(number: u8, text: &str) -> Vec<u8> {
    lengthy(number, text.as_bytes())
}

#[track_caller]
fn check(document: Value, expected: &[Vec<u8>]) {
    assert_eq!(encode(&document), expected.concat(), "{document}");
}

/// `Document.definitions` of one schema named `D`.
fn definition(schema: &[u8]) -> Vec<u8> {
    lengthy(9, &lengthy(1, &[text(1, "D"), lengthy(2, schema)].concat()))
}

/// `Document.paths` of the operation `GET /p`.
fn operation(operation: &[u8]) -> Vec<u8> {
    lengthy(8, &lengthy(2, &[text(1, "/p"), lengthy(2, &lengthy(2, operation))].concat()))
}

#[test]
fn strings_and_messages() {
    check(json!({"swagger": "2.0"}), &[text(1, "2.0")]);
    check(json!({"info": {"title": "t", "version": "v"}}), &[lengthy(2, &[text(1, "t"), text(2, "v")].concat())]);
    check(json!({"unknown": 1}), &[]);
}

#[test]
fn schemas() {
    let schema = |schema: Value, expected: &[u8]| check(json!({"definitions": {"D": schema}}), &[definition(expected)]);
    // Numbers of fields above 15 take two bytes.
    schema(json!({"type": "object"}), &[&[0xb2, 0x01, 0x08][..], &text(1, "object")].concat());
    schema(json!({"items": {"$ref": "r"}}), &[&[0xba, 0x01, 0x05][..], &lengthy(1, &text(1, "r"))].concat());
    let of_strings = lengthy(1, &text(4, "s"));
    schema(json!({"additionalProperties": {"description": "s"}}), &[&[0xaa, 0x01, 0x05][..], &of_strings].concat());
    schema(json!({"additionalProperties": true}), &[0xaa, 0x01, 0x02, 0x10, 0x01]);
    schema(json!({"required": ["a", "b"]}), &[0x9a, 0x01, 1, b'a', 0x9a, 0x01, 1, b'b']);
    let extension = [text(1, "x-y"), lengthy(2, &text(2, "[1]"))].concat();
    let length = u8::try_from(extension.len()).expect("short");
    schema(json!({"x-y": [1]}), &[&[0xfa, 0x01, length][..], &extension].concat());
    let member = lengthy(1, &[text(1, "m"), lengthy(2, &text(2, "f"))].concat());
    let length = u8::try_from(member.len()).expect("short");
    schema(json!({"properties": {"m": {"format": "f"}}}), &[&[0xca, 0x01, length][..], &member].concat());
}

#[test]
fn parameters_and_responses() {
    let of = |op: Value, expected: &[u8]| check(json!({"paths": {"/p": {"get": op}}}), &[operation(expected)]);
    let parameter = |inner: &[u8]| lengthy(8, &lengthy(1, inner));
    let body = [text(3, "body"), lengthy(5, &text(1, "r"))].concat();
    of(json!({"parameters": [{"in": "body", "schema": {"$ref": "r"}}]}), &parameter(&lengthy(1, &body)));
    of(json!({"parameters": [{"in": "query"}]}), &parameter(&lengthy(2, &lengthy(3, &text(2, "query")))));
    let path = [text(2, "path"), vec![1 << 3, 1]].concat();
    of(json!({"parameters": [{"in": "path", "required": true}]}), &parameter(&lengthy(2, &lengthy(4, &path))));
    let response = [text(1, "OK"), lengthy(2, &lengthy(1, &text(1, "r")))].concat();
    let responses = lengthy(1, &[text(1, "200"), lengthy(2, &lengthy(1, &response))].concat());
    of(json!({"responses": {"200": {"description": "OK", "schema": {"$ref": "r"}}}}), &lengthy(9, &responses));
}
