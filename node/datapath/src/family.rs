//! An IP family as user space sees it: the names of its maps, and its addresses as bytes.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use xebec_abi::{Addr4, Addr6, Address, names};

/// An address whose type says the family.
pub trait Family: Address + aya::Pod {
    const FRONTENDS: &'static str;
    const BACKENDS: &'static str;
    const MAGLEV: &'static str;
    const MEMBERS: &'static str;
    const RANGES: &'static str;
    const LATENCIES: &'static str;
    const CONNTRACK: &'static str;
    const NAT: &'static str;
    const TRANSIENT: &'static str;
    const FRAGMENTS: &'static str;
    const AFFINITY: &'static str;
    const ORIGINS: &'static str;
    const ANNOUNCED: &'static str;
    const PODS: &'static str;
    const IPCACHE: &'static str;
    const PREFIXES: &'static str;

    fn ip(self) -> IpAddr;
    /// `None` for an address of the other family.
    fn of(ip: IpAddr) -> Option<Self>;
    /// A node's address as the tables of this family hold it: either family's.
    fn of_node(ip: IpAddr) -> Option<Self>;
    fn to_node(self) -> IpAddr;

    /// Network and prefix length; `None` for one of the other family.
    fn of_net(net: IpNet) -> Option<(Self, u8)> {
        Some((Self::of(net.trunc().addr())?, net.prefix_len()))
    }

    fn net(self, prefix_len: u8) -> Option<IpNet> {
        IpNet::new(self.ip(), prefix_len).ok()
    }
}

impl Family for Addr4 {
    const FRONTENDS: &'static str = names::LB4_FRONTENDS;
    const BACKENDS: &'static str = names::LB4_BACKENDS;
    const MAGLEV: &'static str = names::LB4_MAGLEV;
    const MEMBERS: &'static str = names::LB4_MEMBERS;
    const RANGES: &'static str = names::LB4_RANGES;
    const LATENCIES: &'static str = names::LATENCY4;
    const CONNTRACK: &'static str = names::CT4;
    const NAT: &'static str = names::NAT4;
    const TRANSIENT: &'static str = names::TRANSIENT4;
    const FRAGMENTS: &'static str = names::FRAGMENTS4;
    const AFFINITY: &'static str = names::LB4_AFFINITY;
    const ORIGINS: &'static str = names::SOCK4_ORIGINS;
    const ANNOUNCED: &'static str = names::L2_ANNOUNCED4;
    const PODS: &'static str = names::PODS4;
    const IPCACHE: &'static str = names::IPCACHE4;
    const PREFIXES: &'static str = names::PREFIXES4;

    fn ip(self) -> IpAddr {
        IpAddr::from(self)
    }

    fn of(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => Some(ip.octets()),
            IpAddr::V6(_) => None,
        }
    }

    fn of_node(ip: IpAddr) -> Option<Self> {
        Self::of(ip)
    }

    fn to_node(self) -> IpAddr {
        self.ip()
    }
}

impl Family for Addr6 {
    const FRONTENDS: &'static str = names::LB6_FRONTENDS;
    const BACKENDS: &'static str = names::LB6_BACKENDS;
    const MAGLEV: &'static str = names::LB6_MAGLEV;
    const MEMBERS: &'static str = names::LB6_MEMBERS;
    const RANGES: &'static str = names::LB6_RANGES;
    const LATENCIES: &'static str = names::LATENCY6;
    const CONNTRACK: &'static str = names::CT6;
    const NAT: &'static str = names::NAT6;
    const TRANSIENT: &'static str = names::TRANSIENT6;
    const FRAGMENTS: &'static str = names::FRAGMENTS6;
    const AFFINITY: &'static str = names::LB6_AFFINITY;
    const ORIGINS: &'static str = names::SOCK6_ORIGINS;
    const ANNOUNCED: &'static str = names::L2_ANNOUNCED6;
    const PODS: &'static str = names::PODS6;
    const IPCACHE: &'static str = names::IPCACHE6;
    const PREFIXES: &'static str = names::PREFIXES6;

    fn ip(self) -> IpAddr {
        IpAddr::V6(self.into())
    }

    fn of(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some(ip.into()),
        }
    }

    fn of_node(ip: IpAddr) -> Option<Self> {
        Some(match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
            IpAddr::V6(ip) => ip.into(),
        })
    }

    fn to_node(self) -> IpAddr {
        Ipv6Addr::from(self).to_canonical()
    }
}
