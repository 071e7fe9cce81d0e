use super::*;

#[test]
fn names_are_displayed_as_upstream_does() {
    let check = |shown: String, want: &str| assert_eq!(shown, want);
    check(GroupVersion::new("", "v1").to_string(), "v1");
    check(GroupVersion::new("apps", "v1").to_string(), "apps/v1");
    check(GroupResource::new("", "pods").to_string(), "pods");
    check(GroupResource::new("apps", "deployments").to_string(), "deployments.apps");
    check(GroupKind::new("apps", "Deployment").to_string(), "Deployment.apps");
    check(GroupVersionKind::new("", "v1", "Pod").to_string(), "/v1, Kind=Pod");
    check(GroupVersionResource::new("apps", "v1", "deployments").to_string(), "apps/v1, Resource=deployments");
}

#[test]
fn group_versions_parse() {
    assert_eq!("v1".parse(), Ok(GroupVersion::new("", "v1")));
    assert_eq!("apps/v1".parse(), Ok(GroupVersion::new("apps", "v1")));
    assert!("a/b/c".parse::<GroupVersion>().is_err());
}
