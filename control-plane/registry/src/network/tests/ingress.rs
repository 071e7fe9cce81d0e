//! Ingresses, their classes, policies, addresses and ranges.

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::network::ingress::Ingress;
use crate::network::ingress_class::IngressClass;
use crate::network::ip_address::{IpAddress, ServiceCidr};
use crate::network::network_policy::NetworkPolicy;
use crate::runtime_class::RuntimeClass;
use crate::strategy::{Scope, Strategy};
use crate::value::merge_patch;

fn object(strategy: &dyn Strategy, spec: Value, change: &Value) -> Value {
    let mut object = json!({"metadata": {"name": "o"}, "spec": spec});
    if strategy.scope() == Scope::Namespaced {
        object["metadata"]["namespace"] = json!("n");
    }
    merge_patch(&mut object, change);
    strategy.default(&mut object);
    object
}

fn texts(errors: Vec<xebec_machinery::field::Error>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check(strategy: &dyn Strategy, spec: Value, expected: &[&str]) {
    assert_eq!(texts(strategy.validate(&object(strategy, spec, &json!({})))), expected);
}

fn rule(path: Value) -> Value {
    json!({"rules": [{"host": "a.example.com", "http": {"paths": [path]}}]})
}

fn service(port: Value) -> Value {
    json!({"service": {"name": "s", "port": port}})
}

#[test]
fn an_ingress_leads_somewhere() {
    let backend = service(json!({"number": 80}));
    let path = "spec.rules[0].http.paths[0]";
    check(&Ingress, rule(json!({"path": "/", "pathType": "Prefix", "backend": backend})), &[]);
    check(&Ingress, json!({"defaultBackend": backend}), &[]);
    check(
        &Ingress,
        json!({}),
        &["spec: Invalid value: \"null\": either `defaultBackend` or `rules` must be specified"],
    );
    check(
        &Ingress,
        rule(json!({"path": "/", "backend": backend})),
        &[&format!("{path}.pathType: Required value: pathType must be specified")],
    );
    check(
        &Ingress,
        rule(json!({"path": "a//b/..", "pathType": "Exact", "backend": backend})),
        &[
            &format!("{path}.path: Invalid value: \"a//b/..\": must be an absolute path"),
            &format!("{path}.path: Invalid value: \"a//b/..\": must not contain '//'"),
            &format!("{path}.path: Invalid value: \"a//b/..\": cannot end with '/..'"),
        ],
    );
    check(
        &Ingress,
        rule(json!({"path": "/", "pathType": "Some", "backend": service(json!({}))})),
        &[
            &format!(
                "{path}.pathType: Unsupported value: \"Some\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\""
            ),
            &format!("{path}.backend: Required value: port name or number is required"),
        ],
    );
    check(
        &Ingress,
        rule(json!({"path": "/", "pathType": "Exact", "backend": {}})),
        &[&format!("{path}.backend: Invalid value: \"\": resource or service backend is required")],
    );
    check(
        &Ingress,
        json!({"defaultBackend": backend, "rules": [{"host": "10.0.0.1"}]}),
        &["spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address"],
    );
}

#[test]
fn the_old_annotation_must_agree_and_is_warned_about() {
    let spec = json!({"defaultBackend": service(json!({"name": "http"})), "ingressClassName": "x"});
    let annotated = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "y"}}});
    let ingress = object(&Ingress, spec, &annotated);
    assert_eq!(
        texts(Ingress.validate(&ingress)),
        [
            "annotations.kubernetes.io/ingress.class: Invalid value: \"y\": must match `ingressClassName` when both are specified"
        ]
    );
    assert_eq!(
        Ingress.warnings(&ingress, None),
        ["annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"]
    );
    // What is stored may keep it.
    assert_eq!(texts(Ingress.validate_update(&ingress, &ingress)), [] as [&str; 0]);
}

#[test]
fn an_ingress_is_a_row() {
    let hosts: Vec<Value> = ["a", "b", "c", "d"].iter().map(|host| json!({"host": host})).collect();
    let mut ingress = object(&Ingress, json!({"rules": hosts, "tls": [{}]}), &json!({}));
    ingress["status"] = json!({"loadBalancer": {"ingress": [{"hostname": "z.example.com"}, {"ip": "10.0.0.1"}]}});
    let cells = Ingress.row(&ingress, OffsetDateTime::UNIX_EPOCH);
    let expected = ["<none>", "a,b,c + 1 more...", "10.0.0.1,z.ex...", "80, 443"].map(|text| json!(text));
    assert_eq!(cells[1..5], expected);
}

#[test]
fn a_class_has_a_controller_and_parameters_somewhere() {
    check(&IngressClass, json!({"controller": "example.com/x"}), &[]);
    check(
        &IngressClass,
        json!({"controller": "x"}),
        &["spec.controller: Invalid value: \"x\": must be a domain-prefixed path (such as \"acme.io/foo\")"],
    );
    check(
        &IngressClass,
        json!({"controller": "example.com/x", "parameters": {"kind": "K", "name": "n", "scope": "Namespace"}}),
        &["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"],
    );
    check(
        &IngressClass,
        json!({"controller": "example.com/x", "parameters": {"kind": "K", "name": "", "namespace": "n"}}),
        &[
            "spec.parameters.name: Required value: name is required",
            "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
        ],
    );
}

#[test]
fn a_policy_is_completed() {
    let policy = |spec| object(&NetworkPolicy, spec, &json!({}));
    assert_eq!(policy(json!({"podSelector": {}}))["spec"]["policyTypes"], json!(["Ingress"]));
    let both = policy(json!({"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}));
    assert_eq!(both["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(both["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
}

#[test]
fn a_policy_names_ports_and_peers() {
    let ingress = |rule: Value| json!({"podSelector": {}, "ingress": [rule]});
    let path = "spec.ingress[0]";
    check(
        &NetworkPolicy,
        ingress(
            json!({"ports": [{"port": 80, "endPort": 79}, {"port": "http", "endPort": 80}, {"endPort": 1}, {"protocol": "IP"}]}),
        ),
        &[
            &format!("{path}.ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`"),
            &format!("{path}.ports[1].endPort: Invalid value: 80: may not be specified when `port` is non-numeric"),
            &format!("{path}.ports[2].endPort: Invalid value: 1: may not be specified when `port` is not specified"),
            &format!(
                "{path}.ports[3].protocol: Unsupported value: \"IP\": supported values: \"TCP\", \"UDP\", \"SCTP\""
            ),
        ],
    );
    check(
        &NetworkPolicy,
        ingress(json!({"from": [{}, {"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]})),
        &[
            &format!("{path}.from[0]: Required value: must specify a peer"),
            &format!("{path}.from[1]: Forbidden: may not specify both ipBlock and another peer"),
        ],
    );
    check(
        &NetworkPolicy,
        ingress(json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16", "10.0.0.0/8", "x"]}}]})),
        &[
            &format!(
                "{path}.from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`"
            ),
            &format!(
                "{path}.from[0].ipBlock.except[1]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`"
            ),
            &format!(
                "{path}.from[0].ipBlock.except[2]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            ),
        ],
    );
}

#[track_caller]
fn check_address(name: &str, parent: Value, expected: &[&str]) {
    let address = object(&IpAddress, json!({"parentRef": parent}), &json!({"metadata": {"name": name}}));
    assert_eq!(texts(IpAddress.validate(&address)), expected);
}

#[test]
fn an_address_has_an_owner() {
    let parent = json!({"resource": "services", "namespace": "n", "name": "s"});
    check_address("10.0.0.1", parent.clone(), &[]);
    check_address(
        "2001:DB8::1",
        parent.clone(),
        &["metadata.name: Invalid value: \"2001:DB8::1\": must be in canonical form (\"2001:db8::1\")"],
    );
    check_address(
        "a",
        json!({"name": "s"}),
        &[
            "metadata.name: Invalid value: \"a\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            "spec.parentRef.resource: Required value",
        ],
    );
    let old = object(&IpAddress, json!({"parentRef": parent}), &json!({}));
    let new = object(&IpAddress, json!({"parentRef": {"resource": "services", "name": "t"}}), &json!({}));
    assert_eq!(
        texts(IpAddress.validate_update(&new, &old)),
        ["spec.parentRef: Invalid value: {\"name\":\"t\",\"resource\":\"services\"}: field is immutable"]
    );
}

#[test]
fn a_range_has_one_part_of_each_family() {
    check(&ServiceCidr, json!({"cidrs": ["10.0.0.0/24", "2001:db8::/112"]}), &[]);
    check(&ServiceCidr, json!({"cidrs": []}), &["spec.cidrs: Required value: at least one CIDR required"]);
    check(
        &ServiceCidr,
        json!({"cidrs": ["10.0.0.0/24", "10.0.1.0/24"]}),
        &[
            "spec.cidrs: Invalid value: {\"cidrs\":[\"10.0.0.0/24\",\"10.0.1.0/24\"]}: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ],
    );
    check(
        &ServiceCidr,
        json!({"cidrs": ["10.0.0.1/24"]}),
        &["spec.cidrs[0]: Invalid value: \"10.0.0.1/24\": must be in canonical form (\"10.0.0.0/24\")"],
    );
    let update = |cidrs: Value| {
        let old = object(&ServiceCidr, json!({"cidrs": ["10.0.0.0/24"]}), &json!({}));
        texts(ServiceCidr.validate_update(&object(&ServiceCidr, json!({"cidrs": cidrs}), &json!({})), &old))
    };
    assert_eq!(update(json!(["10.0.0.0/24", "2001:db8::/112"])), [] as [&str; 0]);
    assert_eq!(
        update(json!(["2001:db8::/112", "10.0.0.0/24"])),
        ["spec.cidrs: Invalid value: [\"2001:db8::/112\",\"10.0.0.0/24\"]: field is immutable"]
    );
    assert_eq!(update(json!(["10.0.1.0/24"])), ["spec.cidrs: Invalid value: [\"10.0.1.0/24\"]: field is immutable"]);
}

#[test]
fn a_runtime_has_a_handler_and_stays() {
    let class = |change: Value| {
        let mut class = json!({"metadata": {"name": "r"}, "handler": "runc"});
        merge_patch(&mut class, &change);
        class
    };
    assert_eq!(texts(RuntimeClass.validate(&class(json!({})))), [] as [&str; 0]);
    let errors = texts(RuntimeClass.validate(&class(json!({
        "handler": "Run C", "overhead": {"podFixed": {"cpu": "-1"}},
        "scheduling": {"tolerations": [{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Exists"}]},
    }))));
    assert_eq!(errors.len(), 3);
    assert!(errors[0].starts_with("handler: Invalid value: \"Run C\": a lowercase RFC 1123 label must consist of"));
    assert_eq!(
        errors[1..],
        [
            "overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            "scheduling.tolerations[1]: Duplicate value: {\"key\":\"a\",\"operator\":\"Exists\"}",
        ]
    );
    assert_eq!(
        texts(RuntimeClass.validate_update(&class(json!({"handler": "kata"})), &class(json!({})))),
        ["handler: Invalid value: \"kata\": field is immutable"]
    );
}
