//! EndpointSlices: `pkg/apis/discovery/validation`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use super::endpoints::first_of;
use super::service::non_special_ip;
use crate::errors::Errors;
use crate::names::{label, port_number, subdomain};
use crate::pod::PROTOCOLS;
use crate::strategy::{Column, Strategy, named};
use crate::value::{at, default, integer, items, items_mut, same, string, strings};

const ADDRESS_TYPES: &[&str] = &["FQDN", "IPv4", "IPv6"];
const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;

pub struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn default(&self, slice: &mut Value) {
        for port in items_mut(slice, "ports") {
            default(port, "name", "");
            default(port, "protocol", "TCP");
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn spec_changed(&self, new: &Value, old: &Value) -> bool {
        ["addressType", "endpoints", "ports", "metadata.labels"]
            .iter()
            .any(|field| !same(at(new, field), at(old, field)))
    }

    fn validate_object(&self, slice: &Value, errors: &mut Errors) {
        let kind = string(slice, "addressType");
        errors.one_of(&Path::new("addressType"), kind, ADDRESS_TYPES);
        let (endpoints, path) = (items(slice, "endpoints"), Path::new("endpoints"));
        if endpoints.len() > ENDPOINTS_MAX {
            errors.too_many(&path, endpoints.len(), ENDPOINTS_MAX);
        } else {
            for (index, endpoint) in endpoints.iter().enumerate() {
                validate_endpoint(endpoint, kind, &path.index(index), errors);
            }
        }
        validate_ports(items(slice, "ports"), &Path::new("ports"), errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_object(new, errors);
        errors.immutable(&Path::new("addressType"), at(new, "addressType"), at(old, "addressType"));
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        super::service::weight_warnings(new)
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("AddressType", "The kind of addresses in this slice."),
                Column::string("Ports", "The ports of every endpoint in this slice."),
                Column::string("Endpoints", "The addresses in this slice."),
                Column::AGE,
            ]
        }
    }

    fn row(&self, slice: &Value, now: OffsetDateTime) -> Vec<Value> {
        let ports = items(slice, "ports")
            .iter()
            .map(|port| integer(port, "port").map_or_else(|| "*".to_owned(), |port| port.to_string()))
            .collect();
        let addresses =
            items(slice, "endpoints").iter().flat_map(|e| strings(e, "addresses")).map(str::to_owned).collect();
        let cells = [
            json!(string(slice, "addressType")),
            json!(first_of(ports, "<unset>")),
            json!(first_of(addresses, "<unset>")),
        ];
        named(slice, now, cells)
    }
}

fn validate_endpoint(endpoint: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let (addresses, addresses_path) = (items(endpoint, "addresses"), path.child("addresses"));
    if addresses.is_empty() {
        errors.required(&addresses_path, "must contain at least 1 address");
    } else if addresses.len() > ADDRESSES_MAX {
        errors.too_many(&addresses_path, addresses.len(), ADDRESSES_MAX);
    }
    for (index, address) in strings(endpoint, "addresses").enumerate() {
        validate_address(address, kind, &addresses_path.index(index), errors);
    }
    match string(endpoint, "hostname") {
        "" => {}
        host => label(&path.child("hostname"), host, errors),
    }
    match string(endpoint, "nodeName") {
        "" => {}
        node => subdomain(&path.child("nodeName"), node, errors),
    }
    let topology = at(endpoint, "deprecatedTopology");
    crate::meta::labels(topology, &path.child("deprecatedTopology"), errors);
    for (hints, each) in [("hints.forZones", "name"), ("hints.forNodes", "name")] {
        for (index, hint) in items(endpoint, hints).iter().enumerate() {
            if string(hint, each).is_empty() {
                errors.required(&path.child(hints).index(index).child(each), "");
            }
        }
    }
}

fn validate_address(address: &str, kind: &str, path: &Path, errors: &mut Errors) {
    match kind {
        "IPv4" => match address.parse::<std::net::Ipv4Addr>() {
            Ok(ip) => non_special_ip(address, ip.into(), path, errors),
            Err(_) => errors.invalid(path, address, "must be a valid IPv4 address"),
        },
        "IPv6" => match address.parse::<std::net::Ipv6Addr>() {
            Ok(ip) => non_special_ip(address, ip.into(), path, errors),
            Err(_) => errors.invalid(path, address, "must be a valid IPv6 address"),
        },
        "FQDN" => {
            errors.invalid_each(path, &json!(address), validation::dns1123_subdomain(address.trim_end_matches('.')))
        }
        _ => {}
    }
}

fn validate_ports(ports: &[Value], path: &Path, errors: &mut Errors) {
    if ports.len() > PORTS_MAX {
        errors.too_many(path, ports.len(), PORTS_MAX);
        return;
    }
    let mut names = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let (path, name) = (path.index(index), string(port, "name"));
        if !name.is_empty() {
            label(&path.child("name"), name, errors);
        }
        if names.contains(&name) {
            errors.duplicate(&path.child("name"), name);
        }
        names.push(name);
        errors.one_of(&path.child("protocol"), string(port, "protocol"), PROTOCOLS);
        if let Some(number) = integer(port, "port") {
            port_number(&path.child("port"), number, errors);
        }
        if let Some(protocol) = at(port, "appProtocol").as_str() {
            errors.invalid_each(&path.child("appProtocol"), &json!(protocol), validation::qualified_name(protocol));
        }
    }
}
