use serde_json::Value;

use super::*;

#[track_caller]
fn check(spec: Value, port: Option<i32>, expected: Option<&str>) {
    let service: Service = serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).expect("a Service");
    let labels = BTreeMap::from([("app".to_owned(), "web".to_owned()), ("tier".to_owned(), "front".to_owned())]);
    let found = address(&service, &labels, port).map(|address| address.to_string());
    assert_eq!(found.as_deref(), expected, "{spec}");
}

#[test]
fn the_first_service_port_that_selects_the_pods_is_dialled() {
    let ports = json!([{"port": 53, "protocol": "UDP"}, {"port": 80}, {"port": 443, "protocol": "TCP"}]);
    let web = json!({"clusterIP": "10.96.0.7", "selector": {"app": "web"}, "ports": ports});
    check(web.clone(), None, Some("10.96.0.7:80"));
    check(web.clone(), Some(443), Some("10.96.0.7:443"));
    check(web, Some(53), None);
    check(json!({"clusterIP": "10.96.0.7", "selector": {"app": "db"}, "ports": [{"port": 80}]}), None, None);
    check(json!({"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 80}]}), None, None);
    check(json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}), None, None);
}

#[test]
fn a_report_counts_every_failure_and_names_each_kind_once() {
    let one = Report { requests: 10, failures: BTreeMap::from([("reset".to_owned(), 2)]) };
    let two = Report { requests: 5, failures: BTreeMap::from([("reset".to_owned(), 1), ("refused".to_owned(), 1)]) };
    let both = one.join(two);
    assert_eq!((both.requests, both.failed()), (15, 4));
    assert_eq!(both.to_string(), "15 requests, 4 failed\n  1 refused\n  3 reset");
}
