//! The solution as `status.allocation` says it.

use xebec_types::core::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use xebec_types::device::{
    AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceRequestAllocationResult,
};

use super::Allocator;
use super::claim::{Claim, Want};
use super::inventory::{Index, Place};
use super::search::Chosen;

pub fn results(allocator: &Allocator, chosen: &Chosen) -> Vec<AllocationResult> {
    allocator.claims.iter().zip(chosen).map(|(claim, chosen)| result(allocator, claim, chosen)).collect()
}

fn result(allocator: &Allocator, claim: &Claim, chosen: &[(usize, Vec<Index>)]) -> AllocationResult {
    let wants = || {
        let of = |(request, (alternative, devices)): (usize, &'_ (usize, Vec<Index>))| {
            (&claim.requests[request].alternatives[*alternative], devices.clone())
        };
        chosen.iter().enumerate().map(of)
    };
    let one = |want: &Want, index: Index| {
        let id = allocator.inventory.device(index).id.clone();
        DeviceRequestAllocationResult {
            request: want.name.clone(),
            driver: id.driver,
            pool: id.pool,
            device: id.device,
            admin_access: want.admin.then_some(true),
            tolerations: want.tolerations.clone(),
            ..Default::default()
        }
    };
    let results = wants().flat_map(|(want, devices)| devices.into_iter().map(move |index| one(want, index)));
    let results: Vec<_> = results.collect();
    let config = configuration(claim, &wants().map(|(want, _)| want).collect::<Vec<_>>());
    let places: Vec<&Place> =
        chosen.iter().flat_map(|(_, devices)| devices).map(|index| &allocator.inventory.device(*index).place).collect();
    AllocationResult {
        allocation_timestamp: None,
        devices: Some(DeviceAllocationResult {
            config: (!config.is_empty()).then_some(config),
            results: Some(results),
        }),
        node_selector: nodes(&places),
    }
}

/// What drivers are to be told: of classes first, then of the claim. No requests means all.
fn configuration(claim: &Claim, wants: &[&Want]) -> Vec<DeviceAllocationConfiguration> {
    let mut all: Vec<DeviceAllocationConfiguration> = Vec::new();
    for (position, want) in wants.iter().enumerate() {
        let same = |other: &&Want| other.class.metadata.name == want.class.metadata.name;
        if wants[..position].iter().any(&same) {
            continue;
        }
        let requests: Vec<String> = wants.iter().filter(|other| same(other)).map(|want| want.name.clone()).collect();
        let config = want.class.spec.config.iter().flatten().map(|config| DeviceAllocationConfiguration {
            source: "FromClass".into(),
            requests: Some(requests.clone()),
            opaque: config.opaque.clone(),
        });
        all.extend(config);
    }
    let devices = claim.claim.spec.devices.as_ref();
    for config in devices.iter().flat_map(|devices| devices.config.iter().flatten()) {
        let requests = config.requests.clone().unwrap_or_default();
        let concerns = |want: &&Want| {
            let request = want.name.split('/').next().unwrap_or_default();
            requests.iter().any(|name| *name == want.name || name == request)
        };
        if requests.is_empty() || wants.iter().any(concerns) {
            all.push(DeviceAllocationConfiguration {
                source: "FromClaim".into(),
                requests: config.requests.clone(),
                opaque: config.opaque.clone(),
            });
        }
    }
    for config in &mut all {
        config.requests.take_if(|requests| requests.is_empty() || requests.len() == claim.requests.len());
    }
    all
}

/// Where all of the devices can be used; none is everywhere.
fn nodes(places: &[&Place]) -> Option<NodeSelector> {
    let mut both = NodeSelectorTerm::default();
    for place in places {
        match place {
            Place::Everywhere => {}
            Place::Node(name) => {
                let field = NodeSelectorRequirement {
                    key: "metadata.name".into(),
                    operator: "In".into(),
                    values: Some(vec![name.clone()]),
                };
                let term = NodeSelectorTerm { match_expressions: None, match_fields: Some(vec![field]) };
                return Some(NodeSelector { node_selector_terms: vec![term] });
            }
            Place::Nodes(selector) => {
                for term in &selector.node_selector_terms {
                    merge(&mut both.match_expressions, &term.match_expressions);
                    merge(&mut both.match_fields, &term.match_fields);
                }
            }
        }
    }
    let asks = both.match_expressions.is_some() || both.match_fields.is_some();
    asks.then(|| NodeSelector { node_selector_terms: vec![both] })
}

fn merge(into: &mut Option<Vec<NodeSelectorRequirement>>, from: &Option<Vec<NodeSelectorRequirement>>) {
    for requirement in from.iter().flatten() {
        let known = into.get_or_insert_default();
        if !known.contains(requirement) {
            known.push(requirement.clone());
        }
    }
}
