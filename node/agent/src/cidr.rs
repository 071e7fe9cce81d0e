//! The node's podCIDRs, one of each family of the cluster: assigned once by the nodeipam controller, kept on disk so
//! that a restart needs no server.

use std::fs;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use xebec_client::Informers;
use xebec_types::core::Node;

/// The podCIDRs on disk, or else those that the Node object gets.
///
/// # Errors
/// When the file cannot be written.
pub async fn learn(data_dir: &Path, informers: &Informers, node_name: &str) -> std::io::Result<Vec<IpNet>> {
    let path = data_dir.join("pod-cidr");
    if let Some(cidrs) = fs::read_to_string(&path).ok().and_then(|text| parse(&text)) {
        return Ok(cidrs);
    }
    let nodes = informers.informer::<Node>();
    let mut changes = nodes.subscribe();
    loop {
        if let Some(cidrs) = nodes.get("", node_name).map(|node| of(&node)).filter(|cidrs| !cidrs.is_empty()) {
            save(&path, &cidrs)?;
            return Ok(cidrs);
        }
        changes.changed().await;
    }
}

/// The podCIDRs in a Node's spec, the primary family's first.
pub fn of(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let many: Vec<IpNet> = spec.pod_cidrs.iter().flatten().filter_map(|cidr| cidr.parse().ok()).collect();
    if many.is_empty() { spec.pod_cidr.iter().filter_map(|cidr| cidr.parse().ok()).collect() } else { many }
}

fn parse(text: &str) -> Option<Vec<IpNet>> {
    text.trim().split(',').map(|cidr| cidr.parse().ok()).collect()
}

fn save(path: &PathBuf, cidrs: &[IpNet]) -> std::io::Result<()> {
    let text: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, format!("{}\n", text.join(",")))?;
    fs::File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_back() {
        let dir = std::env::temp_dir().join(format!("xebec-cidr-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        for text in ["10.244.1.0/24", "fd00:244:1::/64,10.244.1.0/24"] {
            let cidrs = parse(text).expect("CIDRs");
            save(&dir.join("pod-cidr"), &cidrs).expect("saved");
            assert_eq!(fs::read_to_string(dir.join("pod-cidr")).ok().and_then(|text| parse(&text)), Some(cidrs));
        }
        assert_eq!(parse("10.244.1.0/24,x"), None);
        fs::remove_dir_all(&dir).expect("removed");
    }
}
