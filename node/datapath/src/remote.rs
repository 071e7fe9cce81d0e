//! Where pods of other nodes are.

use std::{net::Ipv4Addr, path::Path};

use ipnet::Ipv4Net;
use xebec_abi::{Endpoint4, PrefixKey4, names};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Config, Datapath, Result, table::Table};

/// Key of an LPM trie (`struct bpf_lpm_trie_key`): the length in host order, then the bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct TrieKey {
    prefix_len: u32,
    addr: [u8; 4],
}

impl Datapath {
    /// Pods of `cidr` are on the node with address `node`.
    pub fn put_remote(&self, cidr: Ipv4Net, node: Ipv4Addr) -> Result<()> {
        self.remotes.put(cidr.trunc(), node)
    }

    /// False if nothing was known about it.
    pub fn remove_remote(&self, cidr: Ipv4Net) -> Result<bool> {
        self.remotes.remove(cidr.trunc())
    }

    /// Every prefix with its node, read from the kernel.
    pub fn remotes(&self) -> Result<Vec<(Ipv4Net, Ipv4Addr)>> {
        self.remotes.read_back()
    }
}

/// Addresses and node prefixes are exact matches in a hash; only other lengths go to the trie,
/// which is slow at size.
#[derive(Debug)]
pub(crate) struct Remotes {
    exact: Table<PrefixKey4, Endpoint4>,
    trie: Table<TrieKey, Endpoint4>,
    node_prefix_len: u8,
}

impl Remotes {
    pub fn open(directory: &Path, config: &Config) -> Result<Self> {
        Ok(Self {
            exact: Table::open(directory, names::IPCACHE4)?,
            trie: Table::open(directory, names::PREFIXES4)?,
            node_prefix_len: config.pod_cidr.prefix_len(),
        })
    }

    fn put(&self, cidr: Ipv4Net, node: Ipv4Addr) -> Result<()> {
        let value = Endpoint4 { node: node.octets(), identity: 0 };
        if self.is_exact(cidr) {
            self.exact.put(&exact_key(cidr), &value)
        } else {
            self.trie.put(&trie_key(cidr), &value)
        }
    }

    fn remove(&self, cidr: Ipv4Net) -> Result<bool> {
        if self.is_exact(cidr) { self.exact.remove(&exact_key(cidr)) } else { self.trie.remove(&trie_key(cidr)) }
    }

    fn read_back(&self) -> Result<Vec<(Ipv4Net, Ipv4Addr)>> {
        let exact = self.exact.entries()?.into_iter().map(|(k, v)| (k.addr, k.prefix_len, v));
        let trie = self.trie.entries()?.into_iter().map(|(k, v)| (k.addr, k.prefix_len as u8, v));
        Ok(exact
            .chain(trie)
            .filter_map(|(addr, len, value)| Some((Ipv4Net::new(addr.into(), len).ok()?, value.node.into())))
            .collect())
    }

    fn is_exact(&self, cidr: Ipv4Net) -> bool {
        cidr.prefix_len() == 32 || cidr.prefix_len() == self.node_prefix_len
    }
}

fn exact_key(cidr: Ipv4Net) -> PrefixKey4 {
    PrefixKey4 { addr: cidr.network().octets(), prefix_len: cidr.prefix_len(), pad: [0; 3] }
}

fn trie_key(cidr: Ipv4Net) -> TrieKey {
    TrieKey { prefix_len: u32::from(cidr.prefix_len()), addr: cidr.network().octets() }
}
