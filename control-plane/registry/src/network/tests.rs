mod ingress;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::endpoint_slice::EndpointSlice;
use super::endpoints::Endpoints;
use crate::strategy::Strategy;

fn messages(errors: Vec<xebec_machinery::field::Error>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn object(strategy: &dyn Strategy, fields: Value) -> Value {
    let mut object = fields;
    object["metadata"] = json!({"name": "e", "namespace": "n", "resourceVersion": "1"});
    strategy.default(&mut object);
    object
}

#[track_caller]
fn check(strategy: &dyn Strategy, fields: Value, expected: &[&str]) {
    assert_eq!(messages(strategy.validate(&object(strategy, fields))), expected);
}

#[test]
fn endpoints_have_addresses_and_ports() {
    check(&Endpoints, json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}), &[]);
    check(
        &Endpoints,
        json!({"subsets": [{}]}),
        &["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"],
    );
    check(
        &Endpoints,
        json!({"subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 0}]}]}),
        &[
            "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ],
    );
}

#[test]
fn slices_have_one_address_type() {
    let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]});
    check(&EndpointSlice, slice.clone(), &[]);
    assert_eq!(object(&EndpointSlice, slice.clone())["ports"], json!([{"port": 80, "name": "", "protocol": "TCP"}]));
    check(&EndpointSlice, json!({}), &["addressType: Required value"]);
    check(
        &EndpointSlice,
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["::1"]}, {"addresses": []}]}),
        &[
            "endpoints[0].addresses[0]: Invalid value: \"::1\": must be a valid IPv4 address",
            "endpoints[1].addresses: Required value: must contain at least 1 address",
        ],
    );
    let mut changed = object(&EndpointSlice, slice.clone());
    changed["addressType"] = json!("FQDN");
    changed["endpoints"] = json!([]);
    let old = object(&EndpointSlice, slice);
    assert_eq!(
        messages(EndpointSlice.validate_update(&changed, &old)),
        ["addressType: Invalid value: \"FQDN\": field is immutable"]
    );
    assert!(EndpointSlice.spec_changed(&changed, &old));
    assert!(!EndpointSlice.spec_changed(&old, &old));
}

#[test]
fn rows_show_the_first_three() {
    let addresses = |n: usize| (1..=n).map(|i| json!({"ip": format!("10.0.0.{i}")})).collect::<Vec<_>>();
    let check = |n: usize, expected: &str| {
        let subset = if n == 0 { json!([]) } else { json!([{"addresses": addresses(n), "ports": [{"port": 80}]}]) };
        let cells = Endpoints.row(&object(&Endpoints, json!({"subsets": subset})), OffsetDateTime::UNIX_EPOCH);
        assert_eq!(cells[1], expected);
    };
    check(0, "<none>");
    check(2, "10.0.0.1:80,10.0.0.2:80");
    check(5, "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...");
    let cells = EndpointSlice.row(&object(&EndpointSlice, json!({"addressType": "IPv4"})), OffsetDateTime::UNIX_EPOCH);
    assert_eq!(cells[1..4], ["IPv4", "<unset>", "<unset>"].map(|cell| json!(cell)));
}
