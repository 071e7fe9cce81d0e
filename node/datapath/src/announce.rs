//! Addresses that this node speaks for on its own network: the program at the uplink answers ARP for them.

use std::{collections::BTreeSet, net::Ipv4Addr, path::Path};

use xebec_abi::{L2Key4, L2Mac, names};

use crate::{Datapath, Result, arp, error::Error, hook::interface, table::Table};

impl Datapath {
    /// Announces these addresses and no others, on every uplink. The neighbours are told at once where new ones are.
    pub fn announce(&self, addresses: &BTreeSet<Ipv4Addr>) -> Result<()> {
        let known = self.announced()?;
        for (addr, ifindex) in known.iter().filter(|(addr, _)| !addresses.contains(addr)) {
            self.announcements.remove(&L2Key4 { addr: addr.octets(), ifindex: *ifindex })?;
        }
        for ifindex in &self.config.uplinks {
            let mac = mac(*ifindex)?;
            for addr in addresses.iter().filter(|addr| !known.contains(&(**addr, *ifindex))) {
                let key = L2Key4 { addr: addr.octets(), ifindex: *ifindex };
                self.announcements.put(&key, &L2Mac { mac, pad: [0; 2] })?;
                // Who had it before may be remembered for minutes.
                arp::announce(*ifindex, mac, addr.octets())
                    .map_err(|source| Error::Interface { ifindex: *ifindex, source })?;
            }
        }
        Ok(())
    }

    /// Addresses that are announced, with the device, read from the kernel.
    pub fn announced(&self) -> Result<BTreeSet<(Ipv4Addr, u32)>> {
        let entries = self.announcements.entries()?;
        Ok(entries.into_iter().map(|(key, _)| (key.addr.into(), key.ifindex)).collect())
    }
}

pub(crate) fn open(directory: &Path) -> Result<Table<L2Key4, L2Mac>> {
    Table::open(directory, names::L2_ANNOUNCED4)
}

/// Of an uplink.
fn mac(ifindex: u32) -> Result<[u8; 6]> {
    arp::mac(&interface(ifindex)?).map_err(|source| Error::Interface { ifindex, source })
}
