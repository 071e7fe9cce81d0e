//! What differs between the families in the two worlds.

use std::net::{IpAddr, Ipv6Addr};

use aya::Pod as Plain;
use xebec_abi::{Addr4, Addr6, Tuple, names};
use xebec_logic::{Family, Verdict, l2, model::Bytes, model::Model, model::Node};

use crate::{IFINDEX, packet, packet6};

/// The networks of the test.
#[derive(Clone, Copy)]
pub enum Subnet {
    /// Of pods, by number: 1 is this node's.
    Pods(u8),
    Services,
    /// Load balancers' addresses.
    Ingress,
    Nodes,
    Clients,
}

/// Lengths of prefixes.
pub struct Lengths {
    /// Of one node's pods, and of several nodes'.
    pub node: u8,
    pub nodes: u8,
    pub clients: u8,
}

/// Names of maps.
pub struct Maps {
    pub frontends: &'static str,
    pub backends: &'static str,
    pub maglev: &'static str,
    pub members: &'static str,
    pub ranges: &'static str,
    pub affinity: &'static str,
    pub announced: &'static str,
    pub pods: &'static str,
    pub ipcache: &'static str,
    pub prefixes: &'static str,
    pub conntrack: &'static str,
    pub nat: &'static str,
    pub fragments: &'static str,
}

pub trait Tested: Family + Plain
where
    Node<Self>: Default,
{
    const MAPS: Maps;
    const LENGTHS: Lengths;
    /// Of a refusal in its frame, which may be longer than what it answers.
    const REFUSAL_BYTES: usize;

    fn at(subnet: Subnet, last: u8) -> Self;
    /// A client outside, one of as many as there are numbers.
    fn stranger(number: u16) -> Self;
    /// A TCP segment with these flags and zeroes.
    fn segment(tuple: &Tuple<Self>, flags: u8) -> Vec<u8>;
    /// For programs: without one of IPv6 that is mapped.
    fn ip(self) -> IpAddr;
    /// The number of the neighbour that the test's FIB sends it to (see [`crate::xdp`]); `None`: to nobody, or to the node.
    fn next_hop(dst: Self) -> Option<u8>;
    /// What is asked for the address of a neighbour.
    fn neighbour(packet: &mut Bytes, model: &Model<Self>) -> Option<Verdict>;
}

impl Tested for Addr4 {
    const MAPS: Maps = Maps {
        frontends: names::LB4_FRONTENDS,
        backends: names::LB4_BACKENDS,
        maglev: names::LB4_MAGLEV,
        members: names::LB4_MEMBERS,
        ranges: names::LB4_RANGES,
        affinity: names::LB4_AFFINITY,
        announced: names::L2_ANNOUNCED4,
        pods: names::PODS4,
        ipcache: names::IPCACHE4,
        prefixes: names::PREFIXES4,
        conntrack: names::CT4,
        nat: names::NAT4,
        fragments: names::FRAGMENTS4,
    };
    const LENGTHS: Lengths = Lengths { node: 24, nodes: 21, clients: 24 };
    const REFUSAL_BYTES: usize = 14 + 20 + 8 + 28;

    fn at(subnet: Subnet, last: u8) -> Self {
        match subnet {
            Subnet::Pods(node) => [10, 244, node, last],
            Subnet::Services => [10, 96, 0, last],
            Subnet::Ingress => [203, 0, 113, last],
            Subnet::Nodes => [172, 30, 0, last],
            Subnet::Clients => [192, 0, 2, last],
        }
    }

    fn stranger(number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        [198, 18, high, low]
    }

    fn segment(tuple: &Tuple<Self>, flags: u8) -> Vec<u8> {
        packet::segment(tuple, flags)
    }

    fn ip(self) -> IpAddr {
        self.into()
    }

    fn next_hop(dst: Self) -> Option<u8> {
        match dst {
            [127, ..] => None,
            [172, 30, 0, last] => Some(last),
            _ => Some(1),
        }
    }

    fn neighbour(packet: &mut Bytes, model: &Model<Self>) -> Option<Verdict> {
        l2::arp(packet, model, IFINDEX)
    }
}

impl Tested for Addr6 {
    const MAPS: Maps = Maps {
        frontends: names::LB6_FRONTENDS,
        backends: names::LB6_BACKENDS,
        maglev: names::LB6_MAGLEV,
        members: names::LB6_MEMBERS,
        ranges: names::LB6_RANGES,
        affinity: names::LB6_AFFINITY,
        announced: names::L2_ANNOUNCED6,
        pods: names::PODS6,
        ipcache: names::IPCACHE6,
        prefixes: names::PREFIXES6,
        conntrack: names::CT6,
        nat: names::NAT6,
        fragments: names::FRAGMENTS6,
    };
    const LENGTHS: Lengths = Lengths { node: 64, nodes: 61, clients: 48 };
    const REFUSAL_BYTES: usize = 14 + 40 + 8 + 48;

    fn at(subnet: Subnet, last: u8) -> Self {
        // The last part reads as in IPv4.
        match subnet {
            Subnet::Pods(node) => v6(&format!("fd10:db8:0:{node}::{last}")),
            Subnet::Services => v6(&format!("fd96:db8::{last}")),
            Subnet::Ingress => v6(&format!("2001:db8:113::{last}")),
            Subnet::Nodes => v6(&format!("2001:db8::{last}")),
            Subnet::Clients => v6(&format!("2001:db8:ffff::{last}")),
        }
    }

    fn stranger(number: u16) -> Self {
        v6(&format!("2001:db8:2::{number:x}"))
    }

    fn segment(tuple: &Tuple<Self>, flags: u8) -> Vec<u8> {
        packet6::segment(tuple, flags)
    }

    fn ip(self) -> IpAddr {
        Ipv6Addr::from(self).to_canonical()
    }

    fn next_hop(dst: Self) -> Option<u8> {
        let ip = Ipv6Addr::from(dst);
        match ip.segments() {
            // What the overlay sends.
            [0, 0, 0, 0, 0, 0xffff, ..] => Addr4::next_hop(dst.to_node()),
            // The last part reads as in IPv4.
            [0x2001, 0xdb8, 0, 0, 0, 0, 0, last] => format!("{last:x}").parse().ok(),
            [0x2001, 0xdb8, 0, 0, ..] => None,
            _ if ip.is_multicast() || ip.is_unicast_link_local() => None,
            _ => Some(1),
        }
    }

    fn neighbour(packet: &mut Bytes, model: &Model<Self>) -> Option<Verdict> {
        l2::neighbour(packet, model, IFINDEX)
    }
}

pub fn v6(text: &str) -> Addr6 {
    text.parse::<Ipv6Addr>().unwrap().into()
}
