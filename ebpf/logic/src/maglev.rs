//! Backends by Maglev table, for clients outside whose service asks for it: whichever node a flow arrives at, now or
//! after the node before it has failed, it goes to the same backend.

use xebec_abi::{FrontendValue, MaglevKey, Tuple, maglev};

use crate::{
    Family, Tables,
    lb::{hash, scale},
};

/// The same on every node.
const SEED: u32 = 0x6d61_676c;

/// A hash of a flow from outside that does not depend on the node: neither on its seed nor on the address that was
/// dialled, which for a NodePort is the node's own.
#[inline(always)]
pub fn flow_hash<A: Family>(tuple: &Tuple<A>, proto: u8) -> u32 {
    hash(&Tuple { dst: A::UNSPECIFIED, ..*tuple }, proto, SEED)
}

/// The slot of the backend that a flow with this hash goes to. `None`: the table is gone, as its frontend was replaced.
#[inline(always)]
pub fn slot<A: Family, T: Tables<A>>(tables: &T, frontend: &FrontendValue, count: u16, hash: u32) -> Option<u16> {
    let Some(entry) = maglev::entry(frontend.flags, hash) else { return Some(scale(hash, u32::from(count)) as u16) };
    let [block, index] = entry.to_be_bytes();
    let key = MaglevKey { service: frontend.service, generation: frontend.generation, block: u16::from(block) };
    tables.maglev(&key, index)
}

#[cfg(test)]
mod tests;
