//! What ADD answers, in the layout of the configuration's version.

use std::path::Path;

use serde_json::{Value, json};

use crate::Attachment;

pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

pub fn attached(version: &str, netns: &Path, ifname: &str, attachment: &Attachment) -> Value {
    let endpoint = &attachment.endpoint;
    let mut ip = json!({
        "address": format!("{}/32", endpoint.ip),
        "gateway": attachment.gateway,
        "interface": 1,
    });
    add_family(version, &mut ip);
    json!({
        "cniVersion": version,
        "interfaces": [
            { "name": endpoint.host_device, "mac": endpoint.host_mac.to_string() },
            { "name": ifname, "mac": endpoint.pod_mac.to_string(), "sandbox": netns },
        ],
        "ips": [ip],
        "routes": [{ "dst": "0.0.0.0/0", "gw": attachment.gateway }],
        "dns": {},
    })
}

pub fn loopback(version: &str, netns: &Path) -> Value {
    let mut ip = json!({ "address": "127.0.0.1/8", "interface": 0 });
    add_family(version, &mut ip);
    json!({
        "cniVersion": version,
        "interfaces": [{ "name": "lo", "mac": "00:00:00:00:00:00", "sandbox": netns }],
        "ips": [ip],
        "dns": {},
    })
}

/// Before 1.0.0 every address names its family.
fn add_family(version: &str, ip: &mut Value) {
    if version.starts_with("0.") {
        ip["version"] = json!("4");
    }
}
