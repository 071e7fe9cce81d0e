use serde_json::{Value, json};

use super::splice;

#[track_caller]
fn check(input: &str, expected: &str) {
    let out = splice("", input.as_bytes(), 42, "").map(|out| String::from_utf8(out).unwrap());
    assert_eq!(out.as_deref(), Some(expected), "{input}");
    serde_json::from_str::<Value>(expected).unwrap();
}

#[track_caller]
fn refuse(input: &str) {
    assert_eq!(splice("", input.as_bytes(), 42, ""), None, "{input}");
}

#[test]
fn the_version_becomes_the_first_member_of_metadata() {
    check(r#"{"metadata":{"name":"a"}}"#, r#"{"metadata":{"resourceVersion":"42","name":"a"}}"#);
    check(r#"{"kind":"Pod","metadata":{}}"#, r#"{"kind":"Pod","metadata":{"resourceVersion":"42"}}"#);
    check(r#" { "metadata" : { } } "#, r#" { "metadata" : {"resourceVersion":"42" } } "#);
}

#[test]
fn a_version_that_is_there_is_replaced() {
    check(
        r#"{"metadata":{"a":{"resourceVersion":"1"},"resourceVersion":"7","z":1}}"#,
        r#"{"metadata":{"a":{"resourceVersion":"1"},"resourceVersion":"42","z":1}}"#,
    );
    check(r#"{"metadata":{"resourceVersion":""}}"#, r#"{"metadata":{"resourceVersion":"42"}}"#);
    check(r#"{"metadata":{"resourceVersion": null }}"#, r#"{"metadata":{"resourceVersion":"42" }}"#);
}

#[test]
fn only_the_top_level_metadata_counts() {
    check(
        r#"{"data":{"metadata":{"x":1},"k":"\"metadata\":{\\"},"metadata":{"name":"a"},"spec":{"metadata":{}}}"#,
        r#"{"data":{"metadata":{"x":1},"k":"\"metadata\":{\\"},"metadata":{"resourceVersion":"42","name":"a"},"spec":{"metadata":{}}}"#,
    );
    check(
        r#"{"a":[1,-2.5e3,true,null,"]}"],"metadata":{"labels":{"resourceVersion":"x"}}}"#,
        r#"{"a":[1,-2.5e3,true,null,"]}"],"metadata":{"resourceVersion":"42","labels":{"resourceVersion":"x"}}}"#,
    );
}

#[test]
fn keys_may_be_escaped() {
    check(r#"{"meta\u0064ata":{"b\"":1}}"#, r#"{"meta\u0064ata":{"resourceVersion":"42","b\"":1}}"#);
    check(r#"{"metadata":{"resource\u0056ersion":"1"}}"#, r#"{"metadata":{"resourceVersion":"42"}}"#);
}

#[test]
fn missing_metadata_is_added() {
    check("{}", r#"{"metadata":{"resourceVersion":"42"}}"#);
    check(r#"{"kind":"X"}"#, r#"{"metadata":{"resourceVersion":"42"},"kind":"X"}"#);
}

#[test]
fn what_is_no_object_is_refused() {
    for input in
        ["", "[]", "null", r#"{"metadata":"#, r#"{"metadata":[]}"#, r#"{"metadata"#, "{", r#"{"a":"\"#, r#"{"a":[}"#]
    {
        refuse(input);
    }
}

#[test]
fn every_truncation_is_harmless() {
    let text = r#"{"a":{"b":["c\\\"",{}]},"metadata":{"x":{"y":[]},"resourceVersion":"1"},"z":"é"}"#;
    for end in 0..text.len() {
        splice("", &text.as_bytes()[..end], 1, "");
    }
}

#[test]
fn agrees_with_a_full_parse() {
    let documents = [
        json!({"metadata": {"name": "é\u{1F600}\n", "annotations": {"a": "{\"metadata\":{}}"}}, "zz": [[], {}, [{}]]}),
        json!({"aa": "\\", "metadata": {"managedFields": [{"f:x": {}}], "resourceVersion": "3"}}),
        json!({"aa": {"bb": {"cc": "\u{0}"}}}),
    ];
    for document in documents {
        let out = splice("", document.to_string().as_bytes(), u64::MAX, "").unwrap();
        let mut expected = document.clone();
        expected["metadata"]["resourceVersion"] = json!(u64::MAX.to_string());
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
    }
}

/// Random documents, compact and indented, with awkward keys and strings at every depth.
#[test]
fn agrees_with_a_full_parse_of_anything() {
    let mut seed = 1u64;
    for round in 0..3_000 {
        let mut document = json!({});
        for _ in 0..draw(&mut seed, 4) {
            document[key(&mut seed)] = value(&mut seed, 4);
        }
        if draw(&mut seed, 4) > 0 {
            let mut metadata = json!({});
            for _ in 0..draw(&mut seed, 4) {
                metadata[key(&mut seed)] = value(&mut seed, 3);
            }
            document["metadata"] = metadata;
        } else if let Some(object) = document.as_object_mut() {
            object.remove("metadata");
        }
        for text in [serde_json::to_vec(&document).unwrap(), serde_json::to_vec_pretty(&document).unwrap()] {
            let out = splice("", &text, round, "").unwrap();
            let mut expected = document.clone();
            expected["metadata"]["resourceVersion"] = json!(round.to_string());
            assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected, "{document}");
            // No key twice, which a parser would hide.
            let again = splice("", &out, round, "").unwrap();
            assert_eq!(again, out);
        }
    }
}

fn draw(seed: &mut u64, limit: u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed % limit
}

fn key(seed: &mut u64) -> &'static str {
    const KEYS: [&str; 8] = ["a", "metadata", "resourceVersion", "\"", "\\", "metadata\\", "{\"metadata\":{", "é\n"];
    KEYS[draw(seed, 8) as usize]
}

fn value(seed: &mut u64, depth: u64) -> Value {
    match draw(seed, if depth == 0 { 4 } else { 6 }) {
        0 => json!(null),
        1 => json!(-1.5e-7),
        2 => json!(draw(seed, 2) == 0),
        3 => json!(key(seed)),
        4 => (0..draw(seed, 3)).map(|_| value(seed, depth - 1)).collect(),
        _ => {
            let mut object = json!({});
            for _ in 0..draw(seed, 3) {
                object[key(seed)] = value(seed, depth - 1);
            }
            object
        }
    }
}
