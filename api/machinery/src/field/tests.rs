use super::*;

#[test]
fn paths_are_spelled_as_upstream() {
    assert_eq!(Path::new("spec").child("ports").index(0).child("port").to_string(), "spec.ports[0].port");
    assert_eq!(Path::new("metadata").child("labels").key("a/b").to_string(), "metadata.labels[a/b]");
    assert_eq!(Path::root().to_string(), "<nil>");
}

#[test]
fn errors_are_worded_as_upstream() {
    let at = Path::new("spec").child("x");
    let check = |error: Error, want: &str| assert_eq!(error.to_string(), want);
    check(
        Error::invalid(&at, 70000, "must be between 1 and 65535, inclusive"),
        "spec.x: Invalid value: 70000: must be between 1 and 65535, inclusive",
    );
    check(Error::invalid(&at, "A", "bad"), "spec.x: Invalid value: \"A\": bad");
    check(Error::invalid(&at, Value::Null, "bad"), "spec.x: Invalid value: \"null\": bad");
    check(Error::required(&at, ""), "spec.x: Required value");
    check(
        Error::not_supported(&at, "C", &["A", "B"]),
        "spec.x: Unsupported value: \"C\": supported values: \"A\", \"B\"",
    );
    check(Error::duplicate(&at, "C"), "spec.x: Duplicate value: \"C\"");
    check(Error::forbidden(&at, "field is immutable"), "spec.x: Forbidden: field is immutable");
    check(Error::too_long(&at, 63), "spec.x: Too long: may not be more than 63 bytes");
    check(Error::too_many(&at, 9, 8), "spec.x: Too many: 9: must have at most 8 items");
}
