use xebec_machinery::GroupVersion;

use super::Discovery;

fn discovery() -> Discovery<'static> {
    Discovery::new(xebec_schema::schema().resources())
}

#[test]
fn core_comes_alone_under_api_and_first_groups_lead_under_apis() {
    let core = discovery().aggregated(true);
    assert_eq!(core["items"].as_array().map(Vec::len), Some(1));
    assert!(core["items"][0]["metadata"].get("name").is_none());
    let named = discovery().aggregated(false);
    assert_eq!(named["items"][0]["metadata"]["name"], "apps");
    assert_eq!(named["items"][1]["metadata"]["name"], "events.k8s.io");
}

#[test]
fn aggregated_and_older_form_agree() {
    let list = discovery().resource_list(&GroupVersion::new("apps", "v1")).expect("apps/v1 is served");
    let rows = list["resources"].as_array().expect("rows");
    let find = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(find("deployments")["shortNames"][0], "deploy");
    assert_eq!(find("deployments/scale")["group"], "autoscaling");
    let aggregated = discovery().aggregated(false);
    let resources = aggregated["items"][0]["versions"][0]["resources"].as_array().expect("resources");
    let deployments = resources.iter().find(|r| r["resource"] == "deployments").expect("deployments");
    assert_eq!(deployments["scope"], "Namespaced");
    assert!(deployments["subresources"].as_array().expect("subresources").iter().any(|s| s["subresource"] == "scale"));
}

#[test]
fn what_is_not_served_is_absent() {
    assert!(discovery().resource_list(&GroupVersion::new("apps", "v9")).is_none());
    assert!(discovery().group("nonsense.example").is_none());
}

#[test]
fn stable_and_newer_versions_are_preferred() {
    let mut versions = ["v1beta1", "v1", "v2alpha1", "v2", "v10", "v1beta2"];
    versions.sort_by_key(|version| std::cmp::Reverse(super::rank(version)));
    assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v2alpha1"]);
}
