//! Where pods of other nodes are.

use std::{net::IpAddr, path::Path};

use ipnet::IpNet;
use xebec_abi::{Addr4, Addr6, Endpoint, PrefixKey};

use crate::{
    Config, Datapath, Result, Routing,
    error::Error,
    family::Family,
    table::{Table, TrieKey},
};

impl Datapath {
    /// Pods of `cidr` are on the node with address `node`: with [`Routing::Vxlan`] an IPv4 address for pods of both
    /// families (an IPv6 one if this node has no IPv4), else of theirs, or IPv4. A node's own addresses are put so too, with the
    /// address that its tunnel ends at, itself included (mapped, in the tables of IPv6): packets for services are taken from no others.
    pub fn put_remote(&self, cidr: IpNet, node: IpAddr) -> Result<()> {
        let known = leads(self.config.routing, self.config.ipv4.is_some(), cidr, node)
            && (self.remotes.ipv4.put(cidr, node)? || self.remotes.ipv6.put(cidr, node)?);
        if known { Ok(()) } else { Err(Error::NodeFamily { cidr, node }) }
    }

    /// False if nothing was known about it.
    pub fn remove_remote(&self, cidr: IpNet) -> Result<bool> {
        Ok(self.remotes.ipv4.remove(cidr)? || self.remotes.ipv6.remove(cidr)?)
    }

    /// Every prefix with its node, read from the kernel.
    pub fn remotes(&self) -> Result<Vec<(IpNet, IpAddr)>> {
        let mut remotes = self.remotes.ipv4.read_back()?;
        remotes.extend(self.remotes.ipv6.read_back()?);
        Ok(remotes)
    }
}

/// Whether pods of `cidr` can be reached over a node's address of this family.
fn leads(routing: Routing, has_ipv4: bool, cidr: IpNet, node: IpAddr) -> bool {
    match routing {
        Routing::Vxlan { .. } => node.is_ipv4() == has_ipv4,
        // The way is the host's; the address is where a tunnel for services ends, if it is of the tunnel's family.
        Routing::Native => node.is_ipv4() || cidr.addr().is_ipv6(),
    }
}

/// Of both families.
#[derive(Debug)]
pub(crate) struct Remotes {
    ipv4: Prefixes<Addr4>,
    ipv6: Prefixes<Addr6>,
}

impl Remotes {
    pub fn open(directory: &Path, config: &Config) -> Result<Self> {
        let (ipv4, ipv6) = (config.ipv4.map(|network| network.pod_cidr), config.ipv6.map(|network| network.pod_cidr));
        Ok(Self {
            ipv4: Prefixes::open(directory, ipv4.map(|cidr| cidr.prefix_len()))?,
            ipv6: Prefixes::open(directory, ipv6.map(|cidr| cidr.prefix_len()))?,
        })
    }
}

/// Addresses and node prefixes are exact matches in a hash; only other lengths go to the trie,
/// which is slow at size.
#[derive(Debug)]
struct Prefixes<A: Family> {
    exact: Table<PrefixKey<A>, Endpoint<A>>,
    trie: Table<TrieKey<A>, Endpoint<A>>,
    node_prefix_len: Option<u8>,
}

impl<A: Family> Prefixes<A> {
    fn open(directory: &Path, node_prefix_len: Option<u8>) -> Result<Self> {
        Ok(Self {
            exact: Table::open(directory, A::IPCACHE)?,
            trie: Table::open(directory, A::PREFIXES)?,
            node_prefix_len,
        })
    }

    /// False if the addresses do not fit this family.
    fn put(&self, cidr: IpNet, node: IpAddr) -> Result<bool> {
        let (Some(prefix), Some(node)) = (A::of_net(cidr), A::of_node(node)) else { return Ok(false) };
        let value = Endpoint { node, identity: 0 };
        if self.is_exact(prefix) {
            self.exact.put(&exact_key(prefix), &value)?;
        } else {
            self.trie.put(&trie_key(prefix), &value)?;
        }
        Ok(true)
    }

    fn remove(&self, cidr: IpNet) -> Result<bool> {
        let Some(prefix) = A::of_net(cidr) else { return Ok(false) };
        if self.is_exact(prefix) { self.exact.remove(&exact_key(prefix)) } else { self.trie.remove(&trie_key(prefix)) }
    }

    fn read_back(&self) -> Result<Vec<(IpNet, IpAddr)>> {
        let exact = self.exact.entries()?.into_iter().map(|(key, value)| (key.addr, key.prefix_len, value));
        let trie = self.trie.entries()?.into_iter().map(|(key, value)| (key.data, key.prefix_len as u8, value));
        let net = |(addr, len, value): (A, u8, Endpoint<A>)| Some((addr.net(len)?, value.node.to_node()));
        Ok(exact.chain(trie).filter_map(net).collect())
    }

    fn is_exact(&self, (_, len): (A, u8)) -> bool {
        len == A::BITS || Some(len) == self.node_prefix_len
    }
}

fn exact_key<A: Family>((addr, prefix_len): (A, u8)) -> PrefixKey<A> {
    PrefixKey { addr, prefix_len, pad: [0; 3] }
}

fn trie_key<A: Family>((addr, prefix_len): (A, u8)) -> TrieKey<A> {
    TrieKey { prefix_len: u32::from(prefix_len), data: addr }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tunnel_runs_over_ipv4_if_there_is_any_and_routes_over_the_pods_family() {
        let check_of = |has_ipv4, routing, cidr: &str, node: &str, expected: bool| {
            let (cidr, node) = (cidr.parse().expect("a network"), node.parse().expect("an address"));
            assert_eq!(leads(routing, has_ipv4, cidr, node), expected, "{routing:?} {cidr} {node}");
        };
        let check = |routing, cidr, node, expected| check_of(true, routing, cidr, node, expected);
        let vxlan = Routing::Vxlan { ifindex: 7, vni: 1 };
        check(vxlan, "10.244.1.0/24", "172.30.0.11", true);
        check(vxlan, "fd00:244:1::/64", "172.30.0.11", true);
        check(vxlan, "fd00:244:1::/64", "fd00:172::11", false);
        check(vxlan, "10.244.1.0/24", "fd00:172::11", false);
        check(Routing::Native, "10.244.1.0/24", "172.30.0.11", true);
        check(Routing::Native, "fd00:244:1::/64", "fd00:172::11", true);
        check(Routing::Native, "fd00:244:1::/64", "172.30.0.11", true);
        check(Routing::Native, "10.244.1.0/24", "fd00:172::11", false);
        check_of(false, vxlan, "fd00:244:1::/64", "fd00:172::11", true);
        check_of(false, vxlan, "fd00:244:1::/64", "172.30.0.11", false);
    }
}
