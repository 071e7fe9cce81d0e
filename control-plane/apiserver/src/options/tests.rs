use super::*;

/// `expected`: "" if accepted, else part of the message.
#[track_caller]
fn check_list(query: &str, watch: bool, expected: &str) {
    match ListOptions::parse(&Query::parse(query), watch) {
        Ok(_) => assert_eq!(expected, "", "{query}"),
        Err(status) => assert!(!expected.is_empty() && status.message.contains(expected), "{query}: {status}"),
    }
}

#[test]
fn lists_refuse_what_they_cannot_honour() {
    check_list("", false, "");
    check_list("limit=500&resourceVersion=0", false, "");
    check_list("resourceVersion=x", false, "must be a non-negative integer");
    check_list("resourceVersionMatch=Exact", false, "forbidden unless resourceVersion is provided");
    check_list("resourceVersionMatch=Exact&resourceVersion=0", false, "is forbidden for resourceVersion \"0\"");
    check_list("resourceVersionMatch=Foo&resourceVersion=5", false, "Unsupported value");
    check_list("sendInitialEvents=true", false, "sendInitialEvents is forbidden for list");
    check_list("continue=!!!", false, "continue key is not valid");
    check_list(
        "continue=e2E",
        false,
        "continue key is not valid: invalid character 'a' looking for beginning of object key string",
    );
    check_list("limit=x", false, "invalid syntax");
    check_list("labelSelector=a%20in", false, "unable to parse requirement");
}

#[test]
fn watches_refuse_what_they_cannot_honour() {
    check_list("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", true, "");
    check_list("sendInitialEvents=true", true, "requires setting resourceVersionMatch to NotOlderThan");
    check_list("resourceVersionMatch=NotOlderThan", true, "unless sendInitialEvents is provided");
    check_list("sendInitialEvents=true&resourceVersionMatch=Exact", true, "Unsupported value");
}

#[test]
fn continue_tokens_survive_a_round_trip() {
    for revision in [Some(Revision(7)), None] {
        let token = Continue { revision, start_after: "/registry/core/pods/a/b".into() };
        assert_eq!(Continue::decode(&token.encode()).unwrap(), token);
    }
    let zero = Continue { revision: Some(Revision(0)), start_after: String::new() };
    assert!(Continue::decode(&zero.encode()).is_err());
}

#[track_caller]
fn check_delete(query: &str, body: Value, expected: Result<Option<Propagation>, &str>) {
    match (DeleteOptions::parse(&Query::parse(query), &body), expected) {
        (Ok(options), Ok(propagation)) => assert_eq!(options.propagation, propagation, "{query} {body}"),
        (Err(status), Err(part)) => assert!(status.message.contains(part), "{status}"),
        (got, expected) => panic!("{query} {body}: {got:?}, not {expected:?}"),
    }
}

#[test]
fn deletes_take_their_options_from_the_body_or_the_query() {
    use serde_json::json;
    check_delete("propagationPolicy=Orphan", Value::Null, Ok(Some(Propagation::Orphan)));
    check_delete("", json!({"propagationPolicy": "Foreground"}), Ok(Some(Propagation::Foreground)));
    check_delete("", json!({"orphanDependents": true}), Ok(Some(Propagation::Orphan)));
    check_delete("", json!({"orphanDependents": true, "propagationPolicy": "Orphan"}), Err("cannot be both set"));
    check_delete("", json!({"propagationPolicy": "Sideways"}), Err("Unsupported value"));
    check_delete("dryRun=Some", Value::Null, Err("Unsupported value"));
}
