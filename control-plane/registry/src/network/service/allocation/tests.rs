use serde_json::{Value, json};

use super::*;

fn allocators() -> Allocators {
    of(&["10.96.0.0/24"])
}

fn dual() -> Allocators {
    of(&["10.96.0.0/24", "fd00:96::/112"])
}

fn of(nets: &[&str]) -> Allocators {
    let nets: Vec<_> = nets.iter().map(|net| net.parse().expect("a network")).collect();
    Allocators { cluster_ips: ClusterIps::new(&nets), node_ports: NodePorts::default() }
}

fn service(spec: Value) -> Value {
    let mut service =
        json!({"spec": {"type": "ClusterIP", "selector": {"a": "b"}, "ports": [{"port": 80, "protocol": "TCP"}]}});
    crate::value::merge_patch(&mut service["spec"], &spec);
    if let (Some(ip), None) = (spec["clusterIP"].as_str(), spec.get("clusterIPs")) {
        set(&mut service, "spec.clusterIPs", json!([ip]));
    }
    service
}

/// The errors of an allocation, none if it was made and kept.
fn take(allocators: &mut Allocators, service: &mut Value, old: Option<&Value>) -> Vec<String> {
    match allocators.allocate(service, old, 0) {
        Ok(allocation) => {
            allocators.commit(allocation);
            Vec::new()
        }
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

const NONE: [&str; 0] = [];

#[test]
fn a_service_gets_an_address_and_its_family() {
    let mut made = service(json!({}));
    assert_eq!(take(&mut allocators(), &mut made, None), NONE);
    assert_eq!(made["spec"]["clusterIP"], "10.96.0.17");
    assert_eq!(made["spec"]["clusterIPs"], json!(["10.96.0.17"]));
    assert_eq!(
        (&made["spec"]["ipFamilies"], &made["spec"]["ipFamilyPolicy"]),
        (&json!(["IPv4"]), &json!("SingleStack"))
    );
    let mut headless = service(json!({"clusterIP": "None", "selector": null}));
    assert_eq!(take(&mut allocators(), &mut headless, None), NONE);
    assert_eq!(headless["spec"]["ipFamilyPolicy"], "RequireDualStack");
    let mut external = service(json!({"type": "ExternalName"}));
    assert_eq!(take(&mut allocators(), &mut external, None), NONE);
    assert_eq!(external["spec"].get("clusterIP"), None);
}

#[test]
fn an_address_or_port_that_is_taken_or_outside_is_refused() {
    let mut all = allocators();
    assert_eq!(all.occupy(&service(json!({"clusterIP": "10.96.0.10", "ports": [{"nodePort": 30001}]}))), NONE);
    let mut check = |spec: Value, expected: &str| assert_eq!(take(&mut all, &mut service(spec), None), [expected]);
    check(
        json!({"clusterIP": "10.96.0.10"}),
        "spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP 10.96.0.10: provided IP is already allocated",
    );
    check(
        json!({"clusterIP": "10.97.0.10"}),
        "spec.clusterIPs: Invalid value: [\"10.97.0.10\"]: failed to allocate IP 10.97.0.10: the provided IP (10.97.0.10) is not in the valid range. The range of valid IPs is 10.96.0.0/24",
    );
    check(
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]}),
        "spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated",
    );
    check(
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}),
        "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
    );
    check(
        json!({"ipFamilies": ["IPv6"]}),
        "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
    );
    // What was taken before an error is free again.
    let mut first = service(json!({}));
    assert_eq!(take(&mut all, &mut first, None), NONE);
    assert_eq!(first["spec"]["clusterIP"], "10.96.0.17");
}

#[test]
fn a_change_of_type_gives_back_and_takes() {
    let mut all = allocators();
    let mut old = service(json!({"type": "NodePort"}));
    assert_eq!(take(&mut all, &mut old, None), NONE);
    let port = old["spec"]["ports"][0]["nodePort"].as_i64().expect("a node port");
    let mut new = service(json!({"clusterIP": old["spec"]["clusterIP"]}));
    assert_eq!(take(&mut all, &mut new, Some(&old)), NONE);
    assert_eq!(all.node_ports.allocate(port), Ok(()));
    all.release(&new);
    let mut again = service(json!({"clusterIP": new["spec"]["clusterIP"]}));
    assert_eq!(take(&mut all, &mut again, None), NONE);
}

#[test]
fn an_aborted_write_takes_nothing() {
    let mut all = allocators();
    let mut made = service(json!({"clusterIP": "10.96.0.10"}));
    let allocation = all.allocate(&mut made, None, 0).expect("free");
    all.abort(allocation);
    assert_eq!(take(&mut all, &mut made, None), NONE);
}

/// What a Service with this spec gets: policy, families, addresses; or why not.
#[track_caller]
fn check(allocators: &Allocators, old: Option<&Value>, spec: Value, expected: Result<[Value; 3], &[&str]>) {
    let mut made = service(spec);
    let errors = take(&mut allocators.clone(), &mut made, old);
    let got = ["ipFamilyPolicy", "ipFamilies", "clusterIPs"].map(|field| made["spec"][field].clone());
    let expected = expected.map_err(<[&str]>::to_vec);
    assert_eq!(if errors.is_empty() { Ok(got) } else { Err(errors.iter().map(String::as_str).collect()) }, expected);
}

const V4: &str = "10.96.0.17";
const V6: &str = "fd00:96::101";

#[test]
fn a_service_has_the_families_that_its_policy_asks_for() {
    let (four, six) = (of(&["10.96.0.0/24"]), of(&["fd00:96::/112"]));
    let mut turned = dual();
    turned.cluster_ips = ClusterIps::new(&["fd00:96::/112", "10.96.0.0/24"].map(|net| net.parse().expect("a network")));
    let single = |family: &str, ip: &str| Ok([json!("SingleStack"), json!([family]), json!([ip])]);
    check(&dual(), None, json!({}), single("IPv4", V4));
    check(&turned, None, json!({}), single("IPv6", V6));
    check(&six, None, json!({}), single("IPv6", V6));
    check(&dual(), None, json!({"ipFamilies": ["IPv6"]}), single("IPv6", V6));
    check(&dual(), None, json!({"clusterIP": "fd00:96::9"}), single("IPv6", "fd00:96::9"));

    let prefer = json!({"ipFamilyPolicy": "PreferDualStack"});
    let both = |policy: &str| Ok([json!(policy), json!(["IPv4", "IPv6"]), json!([V4, V6])]);
    check(&dual(), None, prefer.clone(), both("PreferDualStack"));
    check(&turned, None, prefer.clone(), Ok([json!("PreferDualStack"), json!(["IPv6", "IPv4"]), json!([V6, V4])]));
    check(&four, None, prefer, Ok([json!("PreferDualStack"), json!(["IPv4"]), json!([V4])]));
    let require = json!({"ipFamilyPolicy": "RequireDualStack"});
    check(&dual(), None, require.clone(), both("RequireDualStack"));
    check(
        &four,
        None,
        require,
        Err(&[
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ]),
    );
    check(
        &dual(),
        None,
        json!({"ipFamilies": ["IPv6", "IPv4"]}),
        Err(&[
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
        ]),
    );
    check(
        &dual(),
        None,
        json!({"ipFamilyPolicy": "PreferDualStack", "clusterIP": "fd00:96::9"}),
        Ok([json!("PreferDualStack"), json!(["IPv6", "IPv4"]), json!(["fd00:96::9", V4])]),
    );
    check(
        &four,
        None,
        json!({"clusterIP": "fd00:96::9"}),
        Err(&["spec.clusterIPs[0]: Invalid value: [\"fd00:96::9\"]: IPv6 is not configured on this cluster"]),
    );
}

#[test]
fn a_headless_service_has_families_without_addresses() {
    let none = json!(["None"]);
    let headless = |spec: Value| {
        let mut all = spec;
        all["clusterIP"] = json!("None");
        all
    };
    check(&dual(), None, headless(json!({})), Ok([json!("SingleStack"), json!(["IPv4"]), none.clone()]));
    check(
        &dual(),
        None,
        headless(json!({"ipFamilyPolicy": "PreferDualStack"})),
        Ok([json!("PreferDualStack"), json!(["IPv4", "IPv6"]), none.clone()]),
    );
    // Without a selector the cluster's configuration does not matter.
    check(
        &allocators(),
        None,
        headless(json!({"selector": null})),
        Ok([json!("RequireDualStack"), json!(["IPv4", "IPv6"]), none.clone()]),
    );
    check(
        &allocators(),
        None,
        headless(json!({"selector": null, "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]})),
        Ok([json!("SingleStack"), json!(["IPv6"]), none]),
    );
}

#[test]
fn the_second_address_comes_and_goes_with_the_policy() {
    let mut all = dual();
    let mut old = service(json!({}));
    assert_eq!(take(&mut all, &mut old, None), NONE);
    let with = |old: &Value, spec: Value| {
        let mut new = old.clone();
        crate::value::merge_patch(&mut new["spec"], &spec);
        new
    };
    let mut both = with(&old, json!({"ipFamilyPolicy": "RequireDualStack"}));
    assert_eq!(take(&mut all, &mut both, Some(&old)), NONE);
    assert_eq!(both["spec"]["clusterIPs"], json!([V4, V6]));
    assert_eq!(all.cluster_ips.allocate(V6.parse().expect("an address")), Err(Refused::Allocated));

    let mut shorter = with(&both, json!({"clusterIPs": [V4], "ipFamilies": ["IPv4"]}));
    assert_eq!(
        take(&mut all, &mut shorter, Some(&both)),
        [
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary cluster IP",
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary IP family",
        ]
    );
    let mut single = with(&both, json!({"ipFamilyPolicy": "SingleStack"}));
    assert_eq!(take(&mut all, &mut single, Some(&both)), NONE);
    assert_eq!((&single["spec"]["clusterIPs"], &single["spec"]["ipFamilies"]), (&json!([V4]), &json!(["IPv4"])));
    assert_eq!(all.cluster_ips.allocate(V6.parse().expect("an address")), Ok(()));
}

#[test]
fn a_service_that_prefers_both_families_is_not_changed_by_the_cluster() {
    let mut old = service(json!({"ipFamilyPolicy": "PreferDualStack"}));
    assert_eq!(take(&mut allocators(), &mut old, None), NONE);
    let mut all = dual();
    assert_eq!(all.occupy(&old), NONE);
    let mut labelled = old.clone();
    set(&mut labelled, "metadata.labels", json!({"a": "b"}));
    assert_eq!(take(&mut all, &mut labelled, Some(&old)), NONE);
    assert_eq!(labelled["spec"]["clusterIPs"], json!([V4]));
    let mut asked = old.clone();
    set(&mut asked, "spec.ipFamilies", json!(["IPv4", "IPv6"]));
    assert_eq!(take(&mut all, &mut asked, Some(&old)), NONE);
    assert_eq!(asked["spec"]["clusterIPs"], json!([V4, V6]));
}
