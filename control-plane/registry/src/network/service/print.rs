//! The row of a service: `printService`.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::fields::node_port;
use crate::meta::format_labels;
use crate::strategy::{Column, age};
use crate::value::{at, integer, items, string, strings};

pub const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("Type", "How the service is exposed."),
    Column::string("Cluster-IP", "The address of the service inside the cluster."),
    Column::string("External-IP", "The addresses of the service outside the cluster."),
    Column::string("Port(s)", "The ports of the service, with their node ports."),
    Column::AGE,
    Column::wide("Selector", "The labels of the pods behind the service."),
];

pub fn row(service: &Value, now: OffsetDateTime) -> Vec<Value> {
    let spec = at(service, "spec");
    let ip = strings(spec, "clusterIPs").next().filter(|ip| !ip.is_empty()).unwrap_or("<none>");
    vec![
        json!(crate::meta::name(service)),
        json!(string(spec, "type")),
        json!(ip),
        json!(external_ip(service)),
        json!(ports(spec)),
        age(service, now),
        json!(format_labels(at(spec, "selector"))),
    ]
}

fn external_ip(service: &Value) -> String {
    let own: Vec<&str> = strings(service, "spec.externalIPs").collect();
    let or = |list: Vec<&str>, none: &str| if list.is_empty() { none.to_owned() } else { list.join(",") };
    match string(service, "spec.type") {
        "ExternalName" => string(service, "spec.externalName").to_owned(),
        "LoadBalancer" => {
            let ingress =
                items(service, "status.loadBalancer.ingress").iter().map(|ingress| match string(ingress, "ip") {
                    "" => string(ingress, "hostname"),
                    ip => ip,
                });
            or(ingress.filter(|address| !address.is_empty()).chain(own.iter().copied()).collect(), "<pending>")
        }
        "ClusterIP" | "NodePort" => or(own, "<none>"),
        _ => "<unknown>".to_owned(),
    }
}

fn ports(spec: &Value) -> String {
    let ports: Vec<String> = items(spec, "ports")
        .iter()
        .map(|port| {
            let (number, protocol) = (integer(port, "port").unwrap_or(0), string(port, "protocol"));
            node_port(port).map_or_else(|| format!("{number}/{protocol}"), |node| format!("{number}:{node}/{protocol}"))
        })
        .collect();
    if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") }
}
