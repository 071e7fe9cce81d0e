//! What ADD answers, in the layout of the configuration's version.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::Attachment;

pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

pub fn attached(version: &str, netns: &Path, ifname: &str, attachment: &Attachment) -> Value {
    let endpoint = &attachment.endpoint;
    let ip = |(ip, gateway): &(IpAddr, IpAddr)| {
        let mut result = json!({ "address": IpNet::from(*ip), "gateway": gateway, "interface": 1 });
        add_family(version, &mut result, *ip);
        result
    };
    let route = |(ip, gateway): &(IpAddr, IpAddr)| {
        let dst = if ip.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        json!({ "dst": dst, "gw": gateway })
    };
    json!({
        "cniVersion": version,
        "interfaces": [
            { "name": endpoint.host_device, "mac": endpoint.host_mac.to_string() },
            { "name": ifname, "mac": endpoint.pod_mac.to_string(), "sandbox": netns },
        ],
        "ips": attachment.addresses.iter().map(ip).collect::<Vec<_>>(),
        "routes": attachment.addresses.iter().map(route).collect::<Vec<_>>(),
        "dns": {},
    })
}

pub fn loopback(version: &str, netns: &Path) -> Value {
    let mut ip = json!({ "address": "127.0.0.1/8", "interface": 0 });
    add_family(version, &mut ip, IpAddr::V4(Ipv4Addr::LOCALHOST));
    json!({
        "cniVersion": version,
        "interfaces": [{ "name": "lo", "mac": "00:00:00:00:00:00", "sandbox": netns }],
        "ips": [ip],
        "dns": {},
    })
}

/// Before 1.0.0 every address names its family.
fn add_family(version: &str, result: &mut Value, ip: IpAddr) {
    if version.starts_with("0.") {
        result["version"] = json!(if ip.is_ipv4() { "4" } else { "6" });
    }
}
