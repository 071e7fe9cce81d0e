//! Network namespaces that end with the value, under names that nothing else uses.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use ipnet::{IpNet, Ipv4Net};
use xebec_netlink::{Handle, Netns, Peer};

use crate::run;

pub struct Scratch {
    pub netns: Netns,
    name: String,
}

impl Scratch {
    pub fn new() -> Result<Self> {
        let name = run::name();
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

/// Two namespaces on a veth pair, and the second one's address.
pub async fn raw_pair() -> Result<(Scratch, Scratch, Ipv4Addr)> {
    let (one, two) = (Scratch::new()?, Scratch::new()?);
    let ips = [Ipv4Addr::new(172, 31, 2, 1), Ipv4Addr::new(172, 31, 2, 2)];
    connect((&one, ips[0]), (&two, ips[1])).await?;
    Ok((one, two, ips[1]))
}

/// A bridge in a namespace of its own.
pub struct Switch {
    scratch: Scratch,
    ports: AtomicU32,
}

impl Switch {
    pub async fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        let handle = scratch.handle()?;
        handle.link_add_bridge("bridge").await?;
        handle.link_set_up("bridge").await?;
        Ok(Self { scratch, ports: AtomicU32::new(0) })
    }

    /// Connects a namespace to the bridge by its `eth0`.
    pub async fn plug(&self, node: &Scratch, ip: Ipv4Addr) -> Result<()> {
        let port = format!("port{}", self.ports.fetch_add(1, Ordering::Relaxed));
        let bridge = self.scratch.handle()?;
        bridge.link_add_veth(&port, Peer::new("eth0").netns(&node.netns)).await?;
        bridge.link_set_master(&port, Some("bridge")).await?;
        bridge.link_set_up(&port).await?;
        let handle = node.handle()?;
        handle.link_set_up("lo").await?;
        handle.link_set_up("eth0").await?;
        let index = handle.link("eth0").await?.index;
        Ok(handle.addr_add(index, IpNet::V4(Ipv4Net::new(ip, 24)?)).await?)
    }
}

/// Resets instead of closing: ports do not stay in TIME_WAIT, so that long runs do not exhaust them.
pub fn close(stream: TcpStream) -> std::io::Result<()> {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger)?;
    Ok(())
}
