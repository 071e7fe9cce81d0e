//! Which devices a pod's claims get on a node (`k8s.io/dynamic-resource-allocation/structured`).
//!
//! The first solution is taken: devices in the order of their slices, alternatives in the order of the request. What a request may have does not depend on
//! the node but for where devices are, so selectors are asked once for each device and decision.

mod claim;
mod inventory;
mod outcome;
mod search;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use xebec_types::device::{AllocationResult, DeviceClass, ResourceClaim};

pub use inventory::{DeviceId, Inventory};

use crate::selector::{self, Evaluator};
use claim::{Claim, Want};
use inventory::Index;

/// A node, as far as devices and claims ask.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    pub name: &'a str,
    pub label: &'a dyn Fn(&str) -> Option<&'a str>,
}

/// Answers, node by node, what some claims that belong together would get.
pub struct Allocator {
    inventory: Arc<Inventory>,
    /// What other claims have.
    taken: HashSet<DeviceId>,
    claims: Vec<Claim>,
    evaluator: Evaluator,
    views: RefCell<HashMap<Index, Arc<selector::Device>>>,
    /// By want and device.
    selected: RefCell<HashMap<(usize, Index), bool>>,
}

impl Allocator {
    /// # Errors
    /// What is wrong with a claim or its class, whatever the node.
    pub fn new(
        inventory: Arc<Inventory>,
        taken: HashSet<DeviceId>,
        claims: &[Arc<ResourceClaim>],
        class: impl Fn(&str) -> Option<Arc<DeviceClass>>,
    ) -> Result<Self, String> {
        let mut wants = 0;
        let claims = claims.iter().map(|claim| Claim::compile(claim, &class, &mut wants)).collect::<Result<_, _>>()?;
        Ok(Self {
            inventory,
            taken,
            claims,
            evaluator: Evaluator::new()?,
            views: RefCell::default(),
            selected: RefCell::default(),
        })
    }

    /// One allocation for each claim, in their order; none if the node has not what they ask for.
    ///
    /// # Errors
    /// A selector that fails, or devices that are not fully known: no other node can help.
    pub fn allocate(&self, node: &Node<'_>) -> Result<Option<Vec<AllocationResult>>, String> {
        let found = search::search(self, node)?;
        Ok(found.map(|chosen| outcome::results(self, &chosen)))
    }

    /// Devices on the node that the want's selectors mean, free or not.
    fn candidates(&self, want: &Want, node: &Node<'_>) -> Result<Vec<Index>, String> {
        let mut candidates = Vec::new();
        for index in self.inventory.on(node) {
            if self.selects(want, index)? {
                candidates.push(index);
            }
        }
        Ok(candidates)
    }

    fn selects(&self, want: &Want, index: Index) -> Result<bool, String> {
        if let Some(known) = self.selected.borrow().get(&(want.id, index)) {
            return Ok(*known);
        }
        let view = self.view(index);
        let mut selects = true;
        for selector in &want.selectors {
            let matches = selector.compiled.matches(&view, &self.evaluator);
            if !matches.map_err(|why| format!("{}: CEL runtime error: {why}", selector.of))? {
                selects = false;
                break;
            }
        }
        self.selected.borrow_mut().insert((want.id, index), selects);
        Ok(selects)
    }

    fn view(&self, index: Index) -> Arc<selector::Device> {
        let mut views = self.views.borrow_mut();
        let device = self.inventory.device(index);
        let view = || {
            let json = |map| serde_json::to_value(map).unwrap_or_default();
            let (attributes, capacity) =
                (json(&device.device.attributes), serde_json::to_value(&device.device.capacity));
            Arc::new(self.evaluator.device(&device.id.driver, &attributes, &capacity.unwrap_or_default()))
        };
        Arc::clone(views.entry(index).or_insert_with(view))
    }
}

#[cfg(test)]
mod tests;
