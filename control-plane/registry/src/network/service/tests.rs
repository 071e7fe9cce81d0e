use serde_json::{Value, json};
use time::OffsetDateTime;

use super::*;
use crate::UserInfo;

fn context() -> Context {
    Context { user: UserInfo::default(), now: OffsetDateTime::UNIX_EPOCH }
}

fn service(spec: Value) -> Value {
    let mut service = json!({
        "metadata": {"name": "s", "namespace": "n", "resourceVersion": "1"},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "a"}},
    });
    for (field, value) in spec.as_object().expect("a spec is an object") {
        service["spec"][field] = value.clone();
    }
    Service.default(&mut service);
    Service.prepare_for_create(&context(), &mut service);
    service
}

fn messages(errors: Vec<xebec_machinery::field::Error>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check(spec: Value, expected: &[&str]) {
    assert_eq!(messages(Service.validate(&service(spec))), expected);
}

/// What an update of `old` by `change` stores, or why not.
fn update(old: &Value, change: Value) -> Result<Value, Vec<String>> {
    let mut new = old.clone();
    for (field, value) in change.as_object().expect("a change is an object") {
        new["spec"][field] = value.clone();
    }
    Service.default(&mut new);
    Service.prepare_for_update(&context(), &mut new, old);
    let errors = messages(Service.validate_update(&new, old));
    if errors.is_empty() { Ok(new) } else { Err(errors) }
}

#[test]
fn the_least_service_gets_every_default() {
    assert_eq!(
        service(json!({}))["spec"],
        json!({
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "selector": {"app": "a"},
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        })
    );
    let affine = service(json!({"sessionAffinity": "ClientIP", "type": "NodePort"}));
    assert_eq!(affine["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10800);
    assert_eq!(affine["spec"]["externalTrafficPolicy"], "Cluster");
    check(json!({}), &[]);
}

#[test]
fn ports_are_distinct_and_in_range() {
    check(json!({"ports": []}), &["spec.ports: Required value"]);
    check(json!({"ports": [], "clusterIP": "None"}), &[]);
    check(
        json!({"ports": [{"port": 70000, "targetPort": "http"}]}),
        &["spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive"],
    );
    check(
        json!({"ports": [{"port": 80}, {"port": 80, "name": "b"}]}),
        &["spec.ports[0].name: Required value", "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}"],
    );
    check(
        json!({"ports": [{"port": 80, "nodePort": 30000}]}),
        &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    );
    check(
        json!({"ports": [{"port": 80, "protocol": "HTTP"}]}),
        &["spec.ports[0].protocol: Unsupported value: \"HTTP\": supported values: \"SCTP\", \"TCP\", \"UDP\""],
    );
    check(
        json!({"type": "NodePort", "ports": [{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30001}]}),
        &["spec.ports[1].nodePort: Duplicate value: 30001"],
    );
}

#[test]
fn each_type_has_its_fields() {
    check(
        json!({"type": "Ingress"}),
        &[
            "spec.type: Unsupported value: \"Ingress\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ],
    );
    check(
        json!({"type": "NodePort", "clusterIP": "None"}),
        &["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
    );
    check(json!({"type": "ExternalName"}), &["spec.externalName: Required value"]);
    check(json!({"type": "ExternalName", "externalName": "example.com."}), &[]);
    check(
        json!({"type": "ExternalName", "externalName": "a.b", "clusterIP": "10.96.0.9"}),
        &["spec.clusterIPs: Forbidden: may not be set for ExternalName services"],
    );
    check(
        json!({"externalTrafficPolicy": "Local"}),
        &["spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services"],
    );
    check(
        json!({"loadBalancerClass": "x/y"}),
        &["spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"],
    );
    check(
        json!({"clusterIP": "x"}),
        &["spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"],
    );
    check(
        json!({"externalIPs": ["127.0.0.1"]}),
        &["spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"],
    );
    check(
        json!({"sessionAffinity": "Cookie"}),
        &["spec.sessionAffinity: Unsupported value: \"Cookie\": supported values: \"ClientIP\", \"None\""],
    );
    check(
        json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 90000}}}),
        &[
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 90000: must be greater than 0 and less than 86400",
        ],
    );
}

#[test]
fn names_are_dns_labels() {
    let mut named = service(json!({}));
    named["metadata"]["name"] = json!("1a");
    assert_eq!(
        messages(Service.validate(&named)),
        [
            "metadata.name: Invalid value: \"1a\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
        ]
    );
}

#[test]
fn an_update_carries_over_what_was_allocated() {
    let old =
        service(json!({"type": "NodePort", "clusterIP": "10.96.1.1", "ports": [{"port": 80, "nodePort": 30100}]}));
    let new =
        update(&old, json!({"clusterIP": "", "clusterIPs": Value::Null, "ports": [{"port": 80}]})).expect("valid");
    assert_eq!(new["spec"]["clusterIP"], "10.96.1.1");
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.96.1.1"]));
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30100);
}

#[test]
fn the_address_does_not_change_but_the_type_does() {
    let old =
        service(json!({"type": "NodePort", "clusterIP": "10.96.1.1", "ports": [{"port": 80, "nodePort": 30100}]}));
    assert_eq!(
        update(&old, json!({"clusterIP": "10.96.1.2"})),
        Err(vec!["spec.clusterIPs[0]: Invalid value: [\"10.96.1.2\"]: may not change once set".to_owned()])
    );
    let cluster = update(&old, json!({"type": "ClusterIP"})).expect("valid");
    assert_eq!(cluster["spec"]["ports"][0].get("nodePort"), None);
    assert_eq!(cluster["spec"].get("externalTrafficPolicy"), None);
    let external = update(&old, json!({"type": "ExternalName", "externalName": "a.b"})).expect("valid");
    assert_eq!(external["spec"].get("clusterIP"), None);
    assert_eq!(external["spec"].get("internalTrafficPolicy"), None);
}

#[test]
fn addresses_match_their_families() {
    let list = |ips: &[&str]| json!({"clusterIP": ips[0], "clusterIPs": ips});
    check(list(&["10.96.0.9", "fd00::9"]), &[]);
    check(
        list(&["10.96.0.9", "10.96.0.10"]),
        &[
            "spec.clusterIPs: Invalid value: [\"10.96.0.9\",\"10.96.0.10\"]: may specify no more than one IP for each IP family",
        ],
    );
    check(
        list(&["None", "fd00::9"]),
        &["spec.clusterIPs: Invalid value: [\"None\",\"fd00::9\"]: 'None' must be the first and only value"],
    );
    check(
        json!({"clusterIP": "fd00::9", "ipFamilies": ["IPv4"]}),
        &["spec.clusterIPs[0]: Invalid value: \"fd00::9\": expected an IPv4 value as indicated by `ipFamilies[0]`"],
    );
    check(
        json!({"ipFamilies": ["IPv4", "IPv5", "IPv4"], "ipFamilyPolicy": "Both"}),
        &[
            "spec.ipFamilies[1]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"",
            "spec.ipFamilies[2]: Duplicate value: \"IPv4\"",
            "spec.ipFamilyPolicy: Unsupported value: \"Both\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
        ],
    );
}

#[test]
fn the_first_family_stays_and_the_second_goes_by_policy_only() {
    let old = service(json!({
        "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"],
        "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
    }));
    let refused = |change: Value| update(&old, change).expect_err("refused");
    assert_eq!(
        refused(json!({"clusterIPs": ["10.96.0.9", "fd00::8"]})),
        ["spec.clusterIPs[1]: Invalid value: [\"10.96.0.9\",\"fd00::8\"]: may not change once set"]
    );
    assert_eq!(
        refused(json!({"clusterIPs": ["10.96.0.9"], "ipFamilies": ["IPv4"]})),
        [
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary clusterIP",
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary ipFamily",
        ]
    );
    assert_eq!(
        refused(json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}))[0],
        "spec.ipFamilies[0]: Invalid value: [\"IPv6\"]: may not change once set"
    );
    update(&old, json!({"clusterIPs": ["10.96.0.9"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}))
        .expect("the policy says so");
}

#[test]
fn rows_show_addresses_and_ports() {
    let check = |spec: Value, status: Value, expected: [&str; 4]| {
        let mut service = service(spec);
        service["status"] = status;
        let cells = Service.row(&service, OffsetDateTime::UNIX_EPOCH);
        assert_eq!(cells[1..5], expected.map(|cell| json!(cell)));
        assert_eq!(cells[6], "app=a");
    };
    check(json!({"clusterIP": "10.96.0.1"}), json!({}), ["ClusterIP", "10.96.0.1", "<none>", "80/TCP"]);
    check(json!({"clusterIP": "None", "ports": []}), json!({}), ["ClusterIP", "None", "<none>", "<none>"]);
    check(
        json!({"type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{"port": 80, "nodePort": 30080}]}),
        json!({}),
        ["LoadBalancer", "10.96.0.1", "<pending>", "80:30080/TCP"],
    );
    check(
        json!({"type": "ExternalName", "externalName": "a.b", "ports": []}),
        json!({}),
        ["ExternalName", "<none>", "a.b", "<none>"],
    );
}
