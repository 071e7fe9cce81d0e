//! Address families, and addresses of networks by number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// `core/v1.IPFamily`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum IpFamily {
    Ipv4,
    Ipv6,
}

impl IpFamily {
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    pub fn of_net(net: IpNet) -> Self {
        Self::of(net.addr())
    }

    /// The family of this name in the API.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Ipv4, Self::Ipv6].into_iter().find(|family| family.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }

    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Ipv4 => Self::Ipv6,
            Self::Ipv6 => Self::Ipv4,
        }
    }
}

/// The address `index` places after the network's own; past the end of its family's addresses, the last one.
pub fn address(net: IpNet, index: u64) -> IpAddr {
    match net {
        IpNet::V4(net) => {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            Ipv4Addr::from_bits(net.network().to_bits().saturating_add(index)).into()
        }
        IpNet::V6(net) => Ipv6Addr::from_bits(net.network().to_bits().saturating_add(index.into())).into(),
    }
}

/// Whether these are one network, or one of each family, as the flags of a dual-stack cluster take them.
///
/// # Errors
/// What else it is, in words that follow the name of a flag.
pub fn one_of_each(nets: &[IpNet]) -> Result<(), String> {
    match nets {
        [_] => Ok(()),
        [a, b] if IpFamily::of_net(*a) != IpFamily::of_net(*b) => Ok(()),
        [a, b] => Err(format!("{a} and {b} are of one family: give one CIDR of each")),
        _ => Err(format!("takes one CIDR, or one of each family, not {}", nets.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_counted_from_the_networks_own() {
        let check = |net: &str, index: u64, expected: &str| {
            let net: IpNet = net.parse().expect("a network");
            assert_eq!(address(net, index).to_string(), expected, "{net} {index}");
        };
        check("10.96.0.0/16", 10, "10.96.0.10");
        check("10.96.7.7/16", 1, "10.96.0.1");
        check("255.255.255.0/24", u64::MAX, "255.255.255.255");
        check("fd00:96::/112", 10, "fd00:96::a");
        check("fd00::/64", u64::MAX, "fd00::ffff:ffff:ffff:ffff");
    }

    #[test]
    fn a_dual_stack_cluster_has_one_network_of_each_family() {
        let check = |nets: &str, expected: bool| {
            let all: Vec<IpNet> = nets.split(',').filter_map(|net| net.parse().ok()).collect();
            assert_eq!(one_of_each(&all).is_ok(), expected, "{nets}");
        };
        check("10.0.0.0/8", true);
        check("fd00::/48,10.0.0.0/8", true);
        check("10.0.0.0/8,11.0.0.0/8", false);
        check("10.0.0.0/8,fd00::/48,11.0.0.0/8", false);
        check("", false);
    }
}
