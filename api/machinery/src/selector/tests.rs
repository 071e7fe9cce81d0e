use serde_json::json;

use super::*;

#[test]
fn label_selectors_display_sorted() {
    let check = |text: &str, want: &str| {
        let selector = LabelSelector::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(selector.to_string(), want, "{text}");
        assert_eq!(LabelSelector::parse(want), Ok(selector));
    };
    check("", "");
    check(" b = 1 , a==2", "a=2,b=1");
    check("x in (b,a,b),!y, z", "x in (a,b),!y,z");
    check("x notin ( a )", "x notin (a)");
    check("a!=1,b>2,c<3", "a!=1,b>2,c<3");
    check("a=", "a=");
    check("a in (,b)", "a in (,b)");
    check("example.com/in=in", "example.com/in=in");
}

#[test]
fn what_is_no_label_selector_is_refused() {
    for text in
        ["a=b,", ",", "a b", "a in", "a in b", "a in (b", "=a", "!", "a>x", "a=-x", "a in ()x", "a~b", "-a=1", "!a=b"]
    {
        assert!(LabelSelector::parse(text).is_err(), "{text}");
    }
}

#[test]
fn labels_match() {
    let object = json!({"metadata": {"labels": {"app": "web", "n": "3"}}});
    let check = |text: &str, want: bool| {
        let selector = LabelSelector::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(selector.matches_object(&object), want, "{text}");
    };
    check("", true);
    check("app=web", true);
    check("app!=web", false);
    check("other!=web", true);
    check("app in (a,web)", true);
    check("other notin (a)", true);
    check("app", true);
    check("!app", false);
    check("n>2,n<4", true);
    check("n>3", false);
    check("app>1", false);
}

#[test]
fn objects_become_label_selectors() {
    let check = |object: serde_json::Value, want: &str| {
        assert_eq!(LabelSelector::from_object(&object).map(|s| s.to_string()), Ok(want.to_owned()));
    };
    check(json!({}), "");
    check(
        json!({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["x", "y"]}]}),
        "a=1,b notin (x,y)",
    );
    assert_eq!(LabelSelector::from_object(&json!(null)), Ok(LabelSelector::Nothing));
    assert!(LabelSelector::from_object(&json!({"matchExpressions": [{"key": "b", "operator": "In"}]})).is_err());
}

#[test]
fn field_selectors_parse_match_and_display() {
    let selector = FieldSelector::parse("status.phase!=Failed,spec.nodeName==n1,metadata.name=a\\,b").expect("valid");
    assert_eq!(selector.to_string(), "status.phase!=Failed,spec.nodeName=n1,metadata.name=a\\,b");
    let get = |field: &str| match field {
        "spec.nodeName" => Some("n1"),
        "metadata.name" => Some("a,b"),
        _ => None,
    };
    assert!(selector.matches(get));
    assert_eq!(selector.required("metadata.name"), Some("a,b"));
    assert!(!FieldSelector::parse("spec.nodeName!=n1").expect("valid").matches(get));
    assert!(FieldSelector::parse("spec.nodeName=").expect("valid").matches(|_| None));
    for text in ["a", "a=b=c", "a=\\x"] {
        assert!(FieldSelector::parse(text).is_err(), "{text}");
    }
}
