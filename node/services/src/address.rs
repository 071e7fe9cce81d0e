//! The node's own addresses at which services are dialled.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// Where one kind of port is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Addresses {
    /// Those that clients outside can reach, sorted.
    pub outside: Vec<IpAddr>,
    /// Besides, for pods and processes of this node alone: loopback, the pods' gateway.
    pub inside: Vec<IpAddr>,
}

/// Where the node's ports are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeAddresses {
    pub node_ports: Addresses,
    pub host_ports: Addresses,
}

impl NodeAddresses {
    /// `own` are the addresses of all of the node's devices; what is only for the machine itself among them does not
    /// count. `primary` are those of the Node object, which the node has in any case.
    pub fn new(
        own: impl IntoIterator<Item = IpAddr>,
        primary: &[IpAddr],
        inside: &[IpAddr],
        chosen: &NodePortAddresses,
    ) -> Self {
        let own = own.into_iter().filter(|addr| is_reachable(*addr) && !inside.contains(addr));
        let outside: BTreeSet<IpAddr> = own.chain(primary.iter().copied()).collect();
        let host_ports = Addresses { outside: outside.into_iter().collect(), inside: inside.to_vec() };
        let taken = |addrs: &[IpAddr]| addrs.iter().copied().filter(|addr| chosen.takes(*addr, primary)).collect();
        let node_ports = Addresses { outside: taken(&host_ports.outside), inside: taken(&host_ports.inside) };
        Self { node_ports, host_ports }
    }
}

/// An address of loopback is each machine's own, a link-local one of IPv6 needs a device besides.
fn is_reachable(addr: IpAddr) -> bool {
    let is_link_local = matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !addr.is_loopback() && !addr.is_unspecified() && !addr.is_multicast() && !is_link_local
}

/// On which of its addresses a node has NodePorts: kube-proxy's `--nodeport-addresses`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodePortAddresses {
    /// Those of the Node object.
    Primary,
    /// Those in one of the networks; all of a family of which there is none.
    In(Vec<IpNet>),
}

impl NodePortAddresses {
    fn takes(&self, addr: IpAddr, primary: &[IpAddr]) -> bool {
        match self {
            Self::Primary => primary.contains(&addr),
            Self::In(networks) => {
                let mut family = networks.iter().filter(|net| net.addr().is_ipv6() == addr.is_ipv6()).peekable();
                family.peek().is_none() || family.any(|net| net.contains(&addr))
            }
        }
    }
}

impl Default for NodePortAddresses {
    /// All.
    fn default() -> Self {
        Self::In(Vec::new())
    }
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidNodePortAddresses {
    #[error("{0:?} is not a CIDR such as 192.0.2.0/24, nor the word primary")]
    Cidr(String),
    #[error("`primary` stands alone, without CIDRs")]
    PrimaryAmongOthers,
}

impl FromStr for NodePortAddresses {
    type Err = InvalidNodePortAddresses;

    /// CIDRs separated by commas, or `primary`; nothing is all.
    fn from_str(text: &str) -> Result<Self, InvalidNodePortAddresses> {
        let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        if parts == ["primary"] {
            return Ok(Self::Primary);
        }
        let network = |part: &&str| match part.parse::<IpNet>() {
            Ok(network) => Ok(network.trunc()),
            Err(_) if *part == "primary" => Err(InvalidNodePortAddresses::PrimaryAmongOthers),
            Err(_) => Err(InvalidNodePortAddresses::Cidr((*part).to_owned())),
        };
        parts.iter().map(network).collect::<Result<_, _>>().map(Self::In)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|ip| ip.parse().expect("an address")).collect()
    }

    /// NodePorts outside and inside, of a node with addresses of every sort.
    #[track_caller]
    fn check(chosen: &str, outside: &str, inside: &str) {
        let own = ips("127.0.0.1 172.30.0.11 192.0.2.7 10.244.1.1 ::1 2001:db8::11 2001:db8:7::7 fe80::1");
        let primary = ips("172.30.0.11 2001:db8::11");
        let chosen = chosen.parse().expect("a choice");
        let found = NodeAddresses::new(own, &primary, &ips("127.0.0.1 10.244.1.1 ::1"), &chosen);
        assert_eq!(found.node_ports, Addresses { outside: ips(outside), inside: ips(inside) }, "{chosen:?}");
        assert_eq!(found.host_ports.outside, ips("172.30.0.11 192.0.2.7 2001:db8::11 2001:db8:7::7"), "{chosen:?}");
        assert_eq!(found.host_ports.inside, ips("127.0.0.1 10.244.1.1 ::1"), "{chosen:?}");
    }

    #[test]
    fn node_ports_are_on_the_addresses_that_are_chosen() {
        let all = "172.30.0.11 192.0.2.7 2001:db8::11 2001:db8:7::7";
        check("", all, "127.0.0.1 10.244.1.1 ::1");
        check("0.0.0.0/0,::/0", all, "127.0.0.1 10.244.1.1 ::1");
        check("primary", "172.30.0.11 2001:db8::11", "");
        // A family without a network keeps all of its addresses, as upstream's (NewNodePortAddresses).
        check("192.0.2.0/24", "192.0.2.7 2001:db8::11 2001:db8:7::7", "::1");
        check("192.0.2.99/24, 127.0.0.0/8,2001:db8:7::/64", "192.0.2.7 2001:db8:7::7", "127.0.0.1");
        check("198.51.100.0/24,fd00::/8", "", "");
    }

    #[test]
    fn a_node_has_the_addresses_of_its_object_before_the_kernel_told_of_them() {
        let found = NodeAddresses::new([], &ips("172.30.0.11"), &[], &NodePortAddresses::default());
        assert_eq!(found.node_ports.outside, ips("172.30.0.11"));
    }

    #[test]
    fn what_is_no_network_is_named() {
        let fails = |text: &str| text.parse::<NodePortAddresses>().expect_err("invalid").to_string();
        assert_eq!(
            fails("10.0.0.0/8,10.0.0.0/33"),
            "\"10.0.0.0/33\" is not a CIDR such as 192.0.2.0/24, nor the word primary"
        );
        assert_eq!(fails("primary,10.0.0.0/8"), "`primary` stands alone, without CIDRs");
        assert!(fails("192.0.2.1").contains("\"192.0.2.1\" is not a CIDR"));
    }
}
