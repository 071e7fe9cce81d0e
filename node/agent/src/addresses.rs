//! The addresses at which the node has NodePorts and hostPorts, as its devices get and lose them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::sync::watch;
use xebec_netlink::{Changes, Handle, Result};
use xebec_services::{NodeAddresses, NodePortAddresses};

use crate::drift::PERIOD;

/// Before the kernel is asked again that refused to tell.
const RETRY: Duration = Duration::from_secs(1);

/// What a node is known by, whatever else it has.
#[derive(Clone, Debug)]
pub struct Numbering {
    handle: Handle,
    /// Of the Node object.
    primary: Vec<IpAddr>,
    /// Of loopback and the pods' gateways.
    inside: Vec<IpAddr>,
    chosen: NodePortAddresses,
}

impl Numbering {
    pub fn new(handle: Handle, datapath: &xebec_datapath::Config, chosen: NodePortAddresses) -> Self {
        Self { handle, primary: datapath.node_ips().collect(), inside: inside(datapath), chosen }
    }

    /// Of the families that the node has.
    pub async fn read(&self) -> Result<NodeAddresses> {
        let own = self.handle.addr_list_all().await?.into_iter().map(|network| network.addr());
        let has_family = |addr: &IpAddr| self.primary.iter().any(|primary| primary.is_ipv6() == addr.is_ipv6());
        Ok(NodeAddresses::new(own.filter(has_family), &self.primary, &self.inside, &self.chosen))
    }

    /// Tells of changes, for ever.
    pub async fn follow(self, told: watch::Sender<NodeAddresses>) {
        loop {
            if let Err(error) = self.follow_socket(&told).await {
                tracing::warn!(error = xebec_client::chain(&error), "follow the node's addresses");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Until the socket is lost.
    async fn follow_socket(&self, told: &watch::Sender<NodeAddresses>) -> Result<()> {
        let mut news = Changes::of_addresses(self.handle.netns())?;
        loop {
            let addresses = self.read().await?;
            told.send_if_modified(|known| {
                let changed = *known != addresses;
                if changed {
                    let at = &addresses.node_ports.outside;
                    tracing::info!(?at, "NodePorts");
                    *known = addresses;
                }
                changed
            });
            tokio::select! {
                alive = news.next() => if !alive {
                    return Ok(());
                },
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }
}

/// Loopback and the pods' gateway, in each family.
fn inside(config: &xebec_datapath::Config) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    if let Some(network) = config.ipv4 {
        addresses.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), network.gateway.into()]);
    }
    if let Some(network) = config.ipv6 {
        addresses.extend([IpAddr::V6(Ipv6Addr::LOCALHOST), network.gateway.into()]);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use xebec_netlink::{LinkSpec, Netns, Peer};

    use super::*;

    /// A network namespace that is gone when the test is.
    struct Space(String, Netns);

    impl Space {
        fn new() -> Self {
            let name = format!("xbtest-agent-addresses-{}", std::process::id());
            let netns = Netns::create(&name).expect("a network namespace (these tests need root)");
            Self(name, netns)
        }
    }

    impl Drop for Space {
        fn drop(&mut self) {
            let _ = Netns::delete(&self.0);
        }
    }

    #[tokio::test]
    async fn addresses_are_followed_as_devices_get_and_lose_them() -> Result<()> {
        let space = Space::new();
        let handle = Handle::in_netns(&space.1)?;
        handle.link_add(&LinkSpec::veth("eth0", Peer::new("eth1").netns(&space.1)).up()).await?;
        let link = handle.link("eth0").await?.index;
        let net = |text: &str| text.parse().expect("a network");
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("an address")).collect::<Vec<IpAddr>>();
        handle.addr_add(link, net("172.30.0.11/24")).await?;
        let numbering = Numbering {
            handle: handle.clone(),
            primary: ips(&["172.30.0.11"]),
            inside: ips(&["127.0.0.1"]),
            chosen: NodePortAddresses::default(),
        };
        let (told, mut seen) = watch::channel(numbering.read().await?);
        assert_eq!(seen.borrow().node_ports.outside, ips(&["172.30.0.11"]));
        let body = async {
            let mut becomes = async |expected: &[&str]| {
                let waits = seen.wait_for(|seen| seen.node_ports.outside == ips(expected));
                let waited = tokio::time::timeout(PERIOD / 2, waits).await;
                waited.expect("told by the kernel, not by the clock").expect("a follower");
            };
            handle.addr_add(link, net("192.0.2.7/32")).await?;
            becomes(&["172.30.0.11", "192.0.2.7"]).await;
            // Of a family that the node does not have.
            handle.addr_add(link, net("2001:db8::7/64")).await?;
            handle.addr_add(handle.link("eth1").await?.index, net("198.51.100.7/24")).await?;
            becomes(&["172.30.0.11", "192.0.2.7", "198.51.100.7"]).await;
            handle.addr_del(link, net("192.0.2.7/32")).await?;
            becomes(&["172.30.0.11", "198.51.100.7"]).await;
            Ok(())
        };
        tokio::select! {
            () = numbering.clone().follow(told) => unreachable!("it follows for ever"),
            outcome = body => outcome,
        }
    }
}
