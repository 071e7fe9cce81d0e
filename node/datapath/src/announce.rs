//! Addresses that this node speaks for on its own network: the programs at the uplinks answer ARP and neighbour
//! solicitations for them.

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use xebec_abi::{Addr4, Addr6, L2Key, L2Mac};

use crate::{Datapath, Result, arp, error::Error, family::Family, hook::interface, ndp, table::Table};

impl Datapath {
    /// Announces these addresses and no others, on every uplink. The neighbours are told at once where new ones are.
    /// Returns those that were not announced, or that were and should not be.
    pub fn announce(&self, addresses: &BTreeSet<IpAddr>) -> Result<BTreeSet<IpAddr>> {
        let mut changed = BTreeSet::new();
        let known = self.announced()?;
        for (addr, ifindex) in known.iter().filter(|(addr, _)| !addresses.contains(addr)) {
            self.announcements.remove(*addr, *ifindex)?;
            changed.insert(*addr);
        }
        for ifindex in &self.config.uplinks {
            let mac = mac(*ifindex)?;
            for addr in addresses.iter().filter(|addr| !known.contains(&(**addr, *ifindex))) {
                self.announcements.put(*addr, *ifindex, mac)?;
                changed.insert(*addr);
                // Who had it before may be remembered for minutes.
                tell(*addr, *ifindex, mac)?;
            }
        }
        Ok(changed)
    }

    /// Tells the neighbours of every announced address again: somebody else may have spoken for them meanwhile.
    pub fn announce_again(&self) -> Result<()> {
        for (addr, ifindex) in self.announced()? {
            tell(addr, ifindex, mac(ifindex)?)?;
        }
        Ok(())
    }

    /// Addresses that are announced, with the device, read from the kernel.
    pub fn announced(&self) -> Result<BTreeSet<(IpAddr, u32)>> {
        let mut announced = entries(&self.announcements.ipv4)?;
        announced.extend(entries(&self.announcements.ipv6)?);
        Ok(announced)
    }
}

#[derive(Debug)]
pub(crate) struct Announcements {
    ipv4: Table<L2Key<Addr4>, L2Mac>,
    ipv6: Table<L2Key<Addr6>, L2Mac>,
}

impl Announcements {
    pub fn open(directory: &Path) -> Result<Self> {
        Ok(Self { ipv4: Table::open(directory, Addr4::ANNOUNCED)?, ipv6: Table::open(directory, Addr6::ANNOUNCED)? })
    }

    /// Each map's name, entries and limit.
    pub fn fill(&self) -> Result<[(&'static str, (u64, u64)); 2]> {
        Ok([(Addr4::ANNOUNCED, self.ipv4.fill()?), (Addr6::ANNOUNCED, self.ipv6.fill()?)])
    }

    fn put(&self, addr: IpAddr, ifindex: u32, mac: [u8; 6]) -> Result<()> {
        let mac = L2Mac { mac, pad: [0; 2] };
        match addr {
            IpAddr::V4(addr) => self.ipv4.put(&L2Key { addr: addr.octets(), ifindex }, &mac),
            IpAddr::V6(addr) => {
                ndp::listen(ifindex, addr).map_err(|source| Error::Interface { ifindex, source })?;
                self.ipv6.put(&L2Key { addr: addr.into(), ifindex }, &mac)
            }
        }
    }

    fn remove(&self, addr: IpAddr, ifindex: u32) -> Result<bool> {
        match addr {
            IpAddr::V4(addr) => self.ipv4.remove(&L2Key { addr: addr.octets(), ifindex }),
            IpAddr::V6(addr) => {
                ndp::ignore(ifindex, addr);
                self.ipv6.remove(&L2Key { addr: addr.into(), ifindex })
            }
        }
    }
}

fn entries<A: Family>(table: &Table<L2Key<A>, L2Mac>) -> Result<BTreeSet<(IpAddr, u32)>> {
    Ok(table.entries()?.into_iter().map(|(key, _)| (key.addr.ip(), key.ifindex)).collect())
}

/// Tells the neighbours on a device that the address is at `mac`.
fn tell(addr: IpAddr, ifindex: u32, mac: [u8; 6]) -> Result<()> {
    match addr {
        IpAddr::V4(addr) => arp::announce(ifindex, mac, addr.octets()),
        IpAddr::V6(addr) => ndp::announce(ifindex, mac, addr),
    }
    .map_err(|source| Error::Interface { ifindex, source })
}

/// Of an uplink.
fn mac(ifindex: u32) -> Result<[u8; 6]> {
    arp::mac(&interface(ifindex)?).map_err(|source| Error::Interface { ifindex, source })
}
