//! Entries of one layout made into those of the next. Every layout that agents ever pinned has a step here to the one after
//! it, so that an agent gets from any of them to its own.

use std::collections::{HashSet, VecDeque};

use aya::Pod;
use xebec_abi::{
    Addr4, Addr6, Flow1, FlowKey, FrontendEntry, FrontendKey, FrontendValue, RehearsalFlow, layout::Layout,
};

use crate::{family::Family, sys};

/// A key and a value, as bytes.
pub type Entry = (Vec<u8>, Vec<u8>);

/// One step of one map.
#[derive(Clone, Debug)]
pub struct Step {
    pub map: &'static str,
    pub from: u64,
    pub to: u64,
    pub value_bytes: usize,
    pub key_bytes: usize,
    convert: fn(&[u8], &[u8]) -> Entry,
}

impl Step {
    /// Of a map whose keys and values are converted by their types.
    pub fn new<K0, V0, K1, V1>(map: &'static str) -> Self
    where
        K0: Pod + Layout + Into<K1>,
        V0: Pod + Layout + Into<V1>,
        K1: Pod + Layout,
        V1: Pod + Layout,
    {
        Self {
            map,
            from: super::of::<K0, V0>(),
            to: super::of::<K1, V1>(),
            key_bytes: size_of::<K1>(),
            value_bytes: size_of::<V1>(),
            convert: |key, value| {
                let (key, value): (K1, V1) = (read::<K0>(key).into(), read::<V0>(value).into());
                (sys::bytes(&[key]).to_vec(), sys::bytes(&[value]).to_vec())
            },
        }
    }
}

/// Every step there is.
pub fn all() -> Vec<Step> {
    [of_family::<Addr4>(), of_family::<Addr6>()].concat()
}

fn of_family<A: Family>() -> Vec<Step> {
    let flows = |map| {
        [
            Step::new::<FlowKey<A>, Flow1<A>, FlowKey<A>, RehearsalFlow<A>>(map),
            Step::new::<FlowKey<A>, RehearsalFlow<A>, FlowKey<A>, Flow1<A>>(map),
        ]
    };
    let frontends = Step::new::<FrontendKey<A>, FrontendValue, FrontendKey<A>, FrontendEntry<A>>(A::FRONTENDS);
    [flows(A::CONNTRACK).to_vec(), flows(A::NAT).to_vec(), vec![frontends]].concat()
}

/// The shortest way from one layout of a map to another.
pub fn path(steps: &[Step], map: &str, from: u64, to: u64) -> Option<Vec<Step>> {
    let mut queue = VecDeque::from([(from, Vec::new())]);
    let mut seen = HashSet::from([from]);
    while let Some((at, path)) = queue.pop_front() {
        if at == to {
            return Some(path);
        }
        for step in steps.iter().filter(|step| step.map == map && step.from == at) {
            if seen.insert(step.to) {
                queue.push_back((step.to, [path.clone(), vec![step.clone()]].concat()));
            }
        }
    }
    None
}

/// An entry, taken along the path.
pub fn convert(path: &[Step], key: &[u8], value: &[u8]) -> Entry {
    let start = (key.to_vec(), value.to_vec());
    path.iter().fold(start, |(key, value), step| (step.convert)(&key, &value))
}

/// # Panics
/// On bytes that are not as many as the type has: the map's number says that they are.
fn read<T: Pod>(bytes: &[u8]) -> T {
    let mut value = sys::zeroed::<T>();
    sys::bytes_mut(std::slice::from_mut(&mut value)).copy_from_slice(bytes);
    value
}

#[cfg(test)]
mod tests;
