//! Network namespaces that end with the value, under names that nothing else uses.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use ipnet::{IpNet, Ipv4Net};
use xebec_netlink::{Handle, Netns, Peer};

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Scratch {
    pub netns: Netns,
    name: String,
}

impl Scratch {
    pub fn new() -> Result<Self> {
        let name = format!("xbbench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Ok(Self { netns: Netns::create(&name)?, name })
    }

    pub fn handle(&self) -> Result<Handle> {
        Ok(Handle::in_netns(&self.netns)?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = Netns::delete(&self.name) {
            eprintln!("remove {}: {error}", self.name);
        }
    }
}

/// Joins two namespaces by a veth pair, `eth0` at both ends, and gives each its address.
pub async fn connect(one: (&Scratch, Ipv4Addr), two: (&Scratch, Ipv4Addr)) -> Result<()> {
    one.0.handle()?.link_add_veth("eth0", Peer::new("eth0").netns(&two.0.netns)).await?;
    for (scratch, ip) in [one, two] {
        let handle = scratch.handle()?;
        handle.link_set_up("lo").await?;
        handle.link_set_up("eth0").await?;
        let index = handle.link("eth0").await?.index;
        handle.addr_add(index, IpNet::V4(Ipv4Net::new(ip, 24)?)).await?;
    }
    Ok(())
}

/// Where cgroup2 is mounted.
pub fn unified() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.filter(|fields| fields.get(2) == Some(&"cgroup2")).find_map(|fields| fields.get(1).map(PathBuf::from))
}
