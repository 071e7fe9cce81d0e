use super::*;

#[track_caller]
fn check(operator: &str, values: &[&str], labels: &[(&str, &str)], expected: bool) {
    let selector = LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: "tier".into(),
            operator: operator.into(),
            values: Some(values.iter().map(ToString::to_string).collect()),
        }]),
        ..LabelSelector::default()
    };
    let labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    assert_eq!(selects(&selector, Some(&labels)), expected, "{operator} {values:?} on {labels:?}");
}

#[test]
fn not_in_also_selects_a_missing_label() {
    check("NotIn", &["web"], &[], true);
    check("NotIn", &["web"], &[("tier", "web")], false);
    check("In", &["web", "db"], &[("tier", "db")], true);
    check("In", &["web"], &[], false);
    check("Exists", &[], &[("tier", "")], true);
    check("DoesNotExist", &[], &[("tier", "")], false);
    check("Near", &["web"], &[("tier", "web")], false);
}

#[test]
fn an_empty_service_selector_selects_nothing() {
    assert!(!map_selects(&BTreeMap::new(), Some(&BTreeMap::new())));
}
