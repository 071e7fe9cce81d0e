//! Addresses that only services have: what arrives for any other port of one is dropped, instead of being routed back to
//! where it came from. Each has an entry without port and protocol among the frontends.

use std::collections::{HashMap, HashSet};

use xebec_abi::{
    Address, Be16, FrontendEntry, FrontendKey, FrontendValue,
    lb::{frontend_flag, scope},
};

use crate::{Result, table::Table};

/// The frontends for clients outside on each such address.
#[derive(Default, Debug)]
pub struct Closed<A: Address>(HashMap<A, HashSet<FrontendKey<A>>>);

impl<A: Address> Closed<A> {
    /// From what is in the map. An entry whose last frontend went in a crash goes with the next one of its address.
    pub fn adopt(entries: &[(FrontendKey<A>, FrontendEntry<A>)]) -> Self {
        let mut closed = Self::default();
        for (key, _) in entries.iter().filter(|(key, entry)| is_address(key) || announces(key, &entry.value)) {
            let frontends = closed.0.entry(key.addr).or_default();
            if !is_address(key) {
                frontends.insert(*key);
            }
        }
        closed
    }

    pub fn add(&mut self, table: &Table<FrontendKey<A>, FrontendEntry<A>>, key: &FrontendKey<A>) -> Result<()> {
        if !self.0.contains_key(&key.addr) {
            table.put(&address(key.addr), &FrontendEntry::default())?;
        }
        self.0.entry(key.addr).or_default().insert(*key);
        Ok(())
    }

    /// Puts entries back that are missing; returns their addresses.
    pub fn repair(&self, table: &Table<FrontendKey<A>, FrontendEntry<A>>) -> Result<Vec<A>> {
        let mut missing = Vec::new();
        for addr in self.0.keys() {
            if table.get(&address(*addr))?.is_none() {
                table.put(&address(*addr), &FrontendEntry::default())?;
                missing.push(*addr);
            }
        }
        Ok(missing)
    }

    pub fn remove(&mut self, table: &Table<FrontendKey<A>, FrontendEntry<A>>, key: &FrontendKey<A>) -> Result<()> {
        let Some(frontends) = self.0.get_mut(&key.addr) else { return Ok(()) };
        frontends.remove(key);
        if frontends.is_empty() {
            self.0.remove(&key.addr);
            table.remove(&address(key.addr))?;
        }
        Ok(())
    }
}

/// Is this an entry that stands for a whole address?
pub fn is_address<A: Address>(key: &FrontendKey<A>) -> bool {
    key.proto == 0
}

pub fn announces<A: Address>(key: &FrontendKey<A>, value: &FrontendValue) -> bool {
    let flags = frontend_flag::LOAD_BALANCER | frontend_flag::EXTERNAL_IP;
    key.scope == scope::EXTERNAL && value.flags & flags != 0
}

fn address<A: Address>(addr: A) -> FrontendKey<A> {
    FrontendKey { addr, port: Be16::ZERO, proto: 0, scope: scope::EXTERNAL }
}
