//! Endpoints: `pkg/registry/core/endpoint`, `ValidateEndpoints`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use super::service::non_special_ip;
use crate::errors::Errors;
use crate::names::{label, port_number, subdomain};
use crate::pod::PROTOCOLS;
use crate::strategy::{Column, Strategy, named};
use crate::value::{at, default_string, integer, items, items_mut, string};

const SHOWN_MAX: usize = 3;
const LABEL_MANAGED: &str = "endpoints.kubernetes.io/managed-by";

pub struct Endpoints;

impl Strategy for Endpoints {
    fn default(&self, endpoints: &mut Value) {
        for port in items_mut(endpoints, "subsets").flat_map(|subset| items_mut(subset, "ports")) {
            default_string(port, "protocol", "TCP");
        }
    }

    fn validate_object(&self, endpoints: &Value, errors: &mut Errors) {
        let path = Path::new("subsets");
        for (index, subset) in items(endpoints, "subsets").iter().enumerate() {
            validate_subset(subset, &path.index(index), errors);
        }
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        // The endpoints controller need not be told.
        if at(new, "metadata.labels").get(LABEL_MANAGED).is_some() {
            return Vec::new();
        }
        vec!["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned()]
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("Endpoints", "The addresses and ports behind the service."), Column::AGE] }
    }

    fn row(&self, endpoints: &Value, now: OffsetDateTime) -> Vec<Value> {
        named(endpoints, now, [json!(format_endpoints(endpoints))])
    }
}

fn validate_subset(subset: &Value, path: &Path, errors: &mut Errors) {
    let (ready, waiting, ports) =
        (items(subset, "addresses"), items(subset, "notReadyAddresses"), items(subset, "ports"));
    if ready.is_empty() && waiting.is_empty() {
        errors.required(path, "must specify `addresses` or `notReadyAddresses`");
    }
    for (field, addresses) in [("addresses", ready), ("notReadyAddresses", waiting)] {
        for (index, address) in addresses.iter().enumerate() {
            validate_address(address, &path.child(field).index(index), errors);
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let path = path.child("ports").index(index);
        match string(port, "name") {
            "" if ports.len() > 1 => errors.required(&path.child("name"), ""),
            "" => {}
            name => label(&path.child("name"), name, errors),
        }
        port_number(&path.child("port"), integer(port, "port").unwrap_or(0), errors);
        errors.one_of(&path.child("protocol"), string(port, "protocol"), PROTOCOLS);
        if let Some(protocol) = at(port, "appProtocol").as_str() {
            errors.invalid_each(&path.child("appProtocol"), &json!(protocol), validation::qualified_name(protocol));
        }
    }
}

fn validate_address(address: &Value, path: &Path, errors: &mut Errors) {
    let (text, path_ip) = (string(address, "ip"), path.child("ip"));
    errors.invalid_each(&path_ip, &json!(text), validation::ip(text));
    if let Ok(ip) = text.parse() {
        non_special_ip(text, ip, &path_ip, errors);
    }
    match string(address, "hostname") {
        "" => {}
        host => label(&path.child("hostname"), host, errors),
    }
    match string(address, "nodeName") {
        "" => {}
        node => subdomain(&path.child("nodeName"), node, errors),
    }
}

/// `formatEndpoints`: the first three, and how many more.
fn format_endpoints(endpoints: &Value) -> String {
    let mut list = Vec::new();
    for subset in items(endpoints, "subsets") {
        let addresses = || items(subset, "addresses").iter().map(|address| string(address, "ip"));
        if items(subset, "ports").is_empty() {
            list.extend(addresses().map(str::to_owned));
        }
        for port in items(subset, "ports") {
            let port = integer(port, "port").unwrap_or(0);
            list.extend(
                addresses().map(|ip| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }),
            );
        }
    }
    first_of(list, "<none>")
}

/// `listWithMoreString`.
pub fn first_of(list: Vec<String>, none: &str) -> String {
    let shown = list.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(",");
    match list.len() {
        0 => none.to_owned(),
        1..=SHOWN_MAX => shown,
        more => format!("{shown} + {} more...", more - SHOWN_MAX),
    }
}
