//! The network under the nodes: a bridge in a namespace of its own, and a veth from every host to it.
//!
//! The host's own namespace gets no device, address or route. `outside` stands for clients that are
//! not part of the cluster.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use ipnet::IpNet;
use xebec_netlink::{Handle, LinkSpec, NETNS_DIR, Netns, Peer, compute_checksums};

use super::layout::{Host, Layout, OUTSIDE, SERVER};
use super::spec::Spec;

const BRIDGE: &str = "br0";
/// The device of every host on the underlay.
pub const UPLINK: &str = "eth0";

/// Makes what is missing.
///
/// # Errors
/// Names the host whose part could not be made.
pub async fn ensure(layout: &Layout, spec: &Spec) -> Result<()> {
    let netns = Netns::ensure(&layout.netns("switch"))?;
    let switch = Handle::in_netns(&netns)?;
    switch.link_set_up("lo").await?;
    switch.ensure_link(&LinkSpec::bridge(BRIDGE).up()).await?;
    let nodes = spec.nodes().map(|node| (node.name(), node.host()));
    let others = [("server".to_owned(), SERVER), ("outside".to_owned(), OUTSIDE)];
    for (role, place) in others.into_iter().chain(nodes) {
        host(layout, &netns, &role, &addresses(spec, place)?)
            .await
            .with_context(|| format!("connect {role} to the underlay"))?;
        if spec.xdp.is_some() {
            wire(layout, &netns, &role)
                .await
                .with_context(|| format!("make a wire between {role} and the underlay"))?;
        }
    }
    Ok(())
}

/// What the name of a host's port on the bridge is: it holds 15 bytes (IFNAMSIZ), and the name of a node fits behind `p-`.
fn port(role: &str) -> String {
    format!("p-{role}")
}

/// Lets XDP see what it would see on a wire, and send: packets have their checksums when they leave either end, and the
/// bridge's end receives what the other end's program sends.
async fn wire(layout: &Layout, switch: &Netns, role: &str) -> Result<()> {
    let port = port(role);
    Netns::named(&layout.netns(role))?.run(|| compute_checksums(UPLINK))??;
    switch.run(|| compute_checksums(&port))??;
    let program = xebec_datapath::xdp_pass()?;
    Ok(Handle::in_netns(switch)?.link_set_xdp(&port, program.as_fd()).await?)
}

/// Of the cluster's families.
fn addresses(spec: &Spec, host: Host) -> Result<Vec<IpNet>> {
    spec.ip_families.underlay(host).into_iter().map(|(ip, prefix)| Ok(IpNet::new(ip, prefix)?)).collect()
}

async fn host(layout: &Layout, switch: &Netns, role: &str, addresses: &[IpNet]) -> Result<()> {
    let netns = Netns::ensure(&layout.netns(role))?;
    let handle = Handle::in_netns(&netns)?;
    handle.link_set_up("lo").await?;
    let port = port(role);
    if handle.link_by_name(UPLINK).await?.is_none() {
        handle.link_add_veth(UPLINK, Peer::new(&port).netns(switch)).await?;
    }
    let ports = Handle::in_netns(switch)?;
    ports.link_set_master(&port, Some(BRIDGE)).await?;
    ports.link_set_up(&port).await?;
    handle.link_set_up(UPLINK).await?;
    let index = handle.link(UPLINK).await?.index;
    for address in addresses {
        handle.ensure_addr(index, *address).await?;
    }
    Ok(())
}

/// Removes every namespace of the cluster, whatever the spec says now.
///
/// # Errors
/// When a namespace cannot be unpinned.
pub async fn remove(layout: &Layout) -> Result<()> {
    let prefix = layout.netns("");
    let names = std::fs::read_dir(NETNS_DIR).into_iter().flatten().flatten();
    for name in names.map(|entry| entry.file_name().to_string_lossy().into_owned()) {
        if name.starts_with(&prefix) {
            Netns::delete(&name).with_context(|| format!("remove the network namespace {name}"))?;
        }
    }
    Ok(())
}
