use super::*;
use crate::service_capacity::ServiceLimits;

#[track_caller]
fn check(enabled: &[&str], disabled: &[&str], expected: Result<(), &str>) {
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let capacity = Arc::new(ServiceCapacity::new(ServiceLimits::NONE, &[]));
    let chain = Chain::new(plugins(&capacity), &owned(enabled), &owned(disabled));
    let outcome = chain.map(|chain| assert!(disabled.iter().all(|d| !chain.names().contains(d))));
    assert_eq!(outcome.map_err(|e| e.to_string()), expected.map_err(str::to_owned));
}

#[test]
fn plugins_are_switched_by_upstreams_names() {
    check(&[], &[], Ok(()));
    check(&["LimitRanger", "NodeRestriction"], &["ResourceQuota", "PodSecurity"], Ok(()));
    check(&["Foo"], &[], Err("enable-admission-plugins plugin \"Foo\" is unknown"));
    check(&[], &["Foo"], Err("disable-admission-plugins plugin \"Foo\" is unknown"));
    check(&["PodSecurity"], &[], Err("enable-admission-plugins plugin \"PodSecurity\" is not built in"));
    let overlap = "enable-admission-plugins and disable-admission-plugins overlap: Priority";
    check(&["Priority"], &["Priority"], Err(overlap));
}
