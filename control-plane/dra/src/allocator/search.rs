//! The search: request by request, device by device, back where it does not go on.

use std::collections::{HashMap, HashSet};

use xebec_machinery::Quantity;
use xebec_types::device::DeviceAttribute;

use super::claim::{Claim, Want};
use super::inventory::{self, Index};
use super::{Allocator, Node};
use crate::limits::RESULTS_MAX;

/// Devices tried for one node. Requests that differ little over many devices could take for ever; the pod waits instead.
const STEPS_MAX: usize = 100_000;

/// What was chosen for a claim: for each request the alternative, and its devices.
pub type Chosen = Vec<Vec<(usize, Vec<Index>)>>;

/// The first solution, or none.
pub fn search(allocator: &Allocator, node: &Node<'_>) -> Result<Option<Chosen>, String> {
    let mut candidates = HashMap::new();
    for want in allocator.claims.iter().flat_map(|claim| &claim.requests).flat_map(|request| &request.alternatives) {
        if want.count.is_none()
            && let Some(pool) = allocator.inventory.unusable_on(node)
        {
            let why = "asks for all devices, but resource pool";
            return Err(format!("request {}: {why} {} is currently being updated", want.name, pool.name));
        }
        candidates.insert(want.id, allocator.candidates(want, node)?);
    }
    let mut search = Search {
        allocator,
        candidates,
        used: HashSet::new(),
        counters: counters(allocator),
        values: Vec::new(),
        chosen: allocator.claims.iter().map(|_| Vec::new()).collect(),
        steps: 0,
    };
    let found = search.request(0, 0);
    Ok(found.then_some(search.chosen))
}

struct Search<'a> {
    allocator: &'a Allocator,
    /// By want.
    candidates: HashMap<usize, Vec<Index>>,
    used: HashSet<Index>,
    /// What is left of counters, by pool.
    counters: HashMap<(usize, (String, String)), Quantity>,
    /// What constraints are held to: claim, constraint, value, by how many devices.
    values: Vec<((usize, usize), DeviceAttribute)>,
    chosen: Chosen,
    steps: usize,
}

impl<'a> Search<'a> {
    /// Places this request and all that follow.
    fn request(&mut self, claim: usize, request: usize) -> bool {
        let allocator = self.allocator;
        let Some(of) = allocator.claims.get(claim) else { return true };
        let Some(wanted) = of.requests.get(request) else { return self.request(claim + 1, 0) };
        for (alternative, want) in wanted.alternatives.iter().enumerate() {
            let all = self.candidates.get(&want.id).cloned().unwrap_or_default();
            let count = want.count.unwrap_or(all.len());
            let already: usize = self.chosen[claim].iter().map(|(_, devices)| devices.len()).sum();
            // All of nothing is not what anybody means.
            if count == 0 || count > all.len() || already + count > RESULTS_MAX {
                continue;
            }
            self.chosen[claim].push((alternative, Vec::new()));
            if self.devices((claim, request), want, &all, count) {
                return true;
            }
            self.chosen[claim].pop();
        }
        false
    }

    /// Places `count` of these devices, then the requests that follow. The order within a request does not matter, so only later devices are tried next.
    fn devices(&mut self, at: (usize, usize), want: &'a Want, from: &[Index], count: usize) -> bool {
        if count == 0 {
            return self.request(at.0, at.1 + 1);
        }
        let last = from.len().saturating_sub(count);
        // Where all are wanted, the first that cannot be had ends it.
        for (position, index) in from.iter().enumerate().take(last + 1) {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return false;
            }
            let held = self.values.len();
            if !self.take(at.0, want, *index) {
                continue;
            }
            if self.devices(at, want, &from[position + 1..], count - 1) {
                return true;
            }
            self.give_back(at.0, want, *index, held);
        }
        false
    }

    fn take(&mut self, claim: usize, want: &Want, index: Index) -> bool {
        let allocator = self.allocator;
        let device = allocator.inventory.device(index);
        let is_free = !self.used.contains(&index) && !allocator.taken.contains(&device.id);
        let may_have = want.admin || (is_free && self.counters_suffice(index));
        if !may_have || !want.tolerates(&device.device) {
            return false;
        }
        let Some(values) = self.agrees(&allocator.claims[claim], claim, want, index) else { return false };
        self.values.extend(values);
        if !want.admin {
            self.used.insert(index);
            self.count(index, false);
        }
        if let Some((_, devices)) = self.chosen[claim].last_mut() {
            devices.push(index);
        }
        true
    }

    fn give_back(&mut self, claim: usize, want: &Want, index: Index, held: usize) {
        self.values.truncate(held);
        if !want.admin {
            self.used.remove(&index);
            self.count(index, true);
        }
        if let Some((_, devices)) = self.chosen[claim].last_mut() {
            devices.pop();
        }
    }

    /// The values that the device makes constraints hold to, if it keeps those that hold.
    fn agrees(
        &self,
        of: &Claim,
        claim: usize,
        want: &Want,
        index: Index,
    ) -> Option<Vec<((usize, usize), DeviceAttribute)>> {
        let device = self.allocator.inventory.device(index);
        let mut fresh = Vec::new();
        for (number, constraint) in of.constraints.iter().enumerate().filter(|(_, c)| c.concerns(want)) {
            let attributes = device.device.attributes.as_ref()?;
            let of_driver = || {
                let (domain, id) = constraint.attribute.split_once('/')?;
                attributes.get(id).filter(|_| domain == device.id.driver)
            };
            let value = attributes.get(&constraint.attribute).or_else(of_driver)?;
            match self.values.iter().find(|(key, _)| *key == (claim, number)) {
                Some((_, held)) if held != value => return None,
                Some(_) => {}
                None => fresh.push(((claim, number), value.clone())),
            }
        }
        Some(fresh)
    }

    fn counters_suffice(&self, index: Index) -> bool {
        let device = self.allocator.inventory.device(index);
        inventory::consumed(&device.device)
            .all(|(counter, amount)| self.counters.get(&(device.pool, counter)).is_some_and(|left| *left >= amount))
    }

    fn count(&mut self, index: Index, back: bool) {
        let device = self.allocator.inventory.device(index);
        for (counter, amount) in inventory::consumed(&device.device) {
            if let Some(left) = self.counters.get_mut(&(device.pool, counter)) {
                *left = if back { *left + amount } else { *left - amount };
            }
        }
    }
}

/// What devices that others have leave of their pools' counters.
fn counters(allocator: &Allocator) -> HashMap<(usize, (String, String)), Quantity> {
    let mut left = HashMap::new();
    for (pool, of) in allocator.inventory.pools.iter().enumerate() {
        left.extend(of.counters.iter().map(|(counter, amount)| ((pool, counter.clone()), *amount)));
    }
    if left.is_empty() {
        return left;
    }
    for device in allocator.taken.iter().filter_map(|id| allocator.inventory.find(id)) {
        for (counter, amount) in inventory::consumed(&device.device) {
            if let Some(left) = left.get_mut(&(device.pool, counter)) {
                *left -= amount;
            }
        }
    }
    left
}
