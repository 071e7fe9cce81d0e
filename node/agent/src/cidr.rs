//! The node's podCIDR: assigned once by the nodeipam controller, kept on disk so that a restart needs no server.

use std::fs;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use xebec_client::Informers;
use xebec_types::core::Node;

/// The podCIDR on disk, or else the one that the Node object gets.
///
/// # Errors
/// When the file cannot be written.
pub async fn learn(data_dir: &Path, informers: &Informers, node_name: &str) -> std::io::Result<Ipv4Net> {
    let path = data_dir.join("pod-cidr");
    if let Some(cidr) = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()) {
        return Ok(cidr);
    }
    let nodes = informers.informer::<Node>();
    let mut changes = nodes.subscribe();
    loop {
        if let Some(cidr) = nodes.get("", node_name).and_then(|node| of(&node)) {
            save(&path, cidr)?;
            return Ok(cidr);
        }
        changes.changed().await;
    }
}

/// The podCIDR in a Node's spec.
pub fn of(node: &Node) -> Option<Ipv4Net> {
    node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()
}

fn save(path: &PathBuf, cidr: Ipv4Net) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, format!("{cidr}\n"))?;
    fs::File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, path)
}
