//! Nodes: `ValidateNode`, `ValidateNodeUpdate`, `printNode`.

use ipnet::IpNet;
use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::{Error, Path};
use xebec_machinery::validation;

use crate::errors::Errors;
use crate::names::{EFFECTS, label_name};
use crate::strategy::{Column, Context, Scope, Strategy, age};
use crate::value::{at, boolean, entries, is_set, items, keep, same, set, string, strings};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE: &str = "kubernetes.io/role";
pub struct Node;

impl Strategy for Node {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    fn default(&self, node: &mut Value) {
        if !is_set(node, "status.allocatable") && is_set(node, "status.capacity") {
            let capacity = at(node, "status.capacity").clone();
            set(node, "status.allocatable", capacity);
        }
        normalize_pod_cidrs(node);
    }

    /// A kubelet registers its node with a status.
    fn prepare_for_create(&self, _context: &Context, _node: &mut Value) {}

    fn prepare_for_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        normalize_pod_cidrs(new);
    }

    fn prepare_for_status_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    fn validate_object(&self, node: &Value, errors: &mut Errors) {
        validate_spec(node, errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_spec(new, errors);
        let path = Path::new("spec");
        let (before, after) = (at(old, "spec.podCIDRs"), at(new, "spec.podCIDRs"));
        if !items(old, "spec.podCIDRs").is_empty() && !same(before, after) {
            errors.forbidden(&path.child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid");
        }
        let provider = string(old, "spec.providerID");
        if !provider.is_empty() && provider != string(new, "spec.providerID") {
            errors.forbidden(
                &path.child("providerID"),
                "node updates may not change providerID except from \"\" to valid",
            );
        }
        if string(new, "spec.externalID") != string(old, "spec.externalID") {
            errors.forbidden(&path.child("externalID"), "may not be updated");
        }
        addresses(new, errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        validate_spec(new, errors);
        addresses(new, errors);
    }

    fn fields(&self, node: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.unschedulable", boolean(node, "spec.unschedulable").to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Status", "Whether the node is ready, and whether it takes pods."),
                Column::string("Roles", "The roles of the node."),
                Column::AGE,
                Column::string("Version", "The version of the node's kubelet."),
                Column::wide("Internal-IP", "The address of the node inside the cluster."),
                Column::wide("External-IP", "The address of the node outside the cluster."),
                Column::wide("OS-Image", "The operating system of the node."),
                Column::wide("Kernel-Version", "The kernel of the node."),
                Column::wide("Container-Runtime", "The container runtime of the node."),
            ]
        }
    }

    fn row(&self, node: &Value, now: OffsetDateTime) -> Vec<Value> {
        let info = at(node, "status.nodeInfo");
        let or = |text: &str, none: &str| json!(if text.is_empty() { none } else { text });
        vec![
            json!(crate::meta::name(node)),
            json!(status(node)),
            json!(roles(node)),
            age(node, now),
            json!(string(info, "kubeletVersion")),
            or(address(node, "InternalIP"), "<none>"),
            or(address(node, "ExternalIP"), "<none>"),
            or(string(info, "osImage"), "<unknown>"),
            or(string(info, "kernelVersion"), "<unknown>"),
            or(string(info, "containerRuntimeVersion"), "<unknown>"),
        ]
    }
}

fn validate_spec(node: &Value, errors: &mut Errors) {
    taints(node, errors);
    let path = Path::new("spec").child("podCIDRs");
    let cidrs: Vec<&str> = strings(node, "spec.podCIDRs").collect();
    for (index, _) in cidrs.iter().enumerate().filter(|(_, cidr)| cidr.parse::<IpNet>().is_err()) {
        errors.invalid(&path.index(index), json!(cidrs), "must be valid CIDR");
    }
    if cidrs.len() > 2 {
        errors.invalid(&path, json!(cidrs), "may specify no more than one CIDR for each IP family");
    }
    for kind in ["capacity", "allocatable"] {
        for (name, amount) in entries(at(node, "status"), kind) {
            crate::pod::resources::amount(name, amount, &Path::new("status").child(kind).child(name), errors);
        }
    }
}

/// Upstream reports taints under `metadata`, though they are in the spec.
fn taints(node: &Value, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (index, taint) in items(node, "spec.taints").iter().enumerate() {
        let path = Path::new("metadata").child("taints").index(index);
        let (key, value, effect) = (string(taint, "key"), string(taint, "value"), string(taint, "effect"));
        label_name(&path.child("key"), key, errors);
        let messages = validation::label_value(value);
        if !messages.is_empty() {
            errors.invalid(&path.child("value"), value, messages.join(";"));
        }
        errors.one_of(&path.child("effect"), effect, &EFFECTS);
        if seen.contains(&(key, effect)) {
            let duplicate = Error::duplicate(&path, taint.clone());
            errors.0.push(Error { detail: "taints must be unique by key and effect pair".to_owned(), ..duplicate });
        }
        seen.push((key, effect));
    }
}

fn addresses(node: &Value, errors: &mut Errors) {
    let all = items(node, "status.addresses");
    for (index, address) in all.iter().enumerate().filter(|(index, address)| all[..*index].contains(address)) {
        errors.duplicate(&Path::new("status").child("addresses").index(index), address.clone());
    }
}

/// `podCIDR` is the first of `podCIDRs`; writing one writes the other (conversion.go).
fn normalize_pod_cidrs(node: &mut Value) {
    let one = string(node, "spec.podCIDR").to_owned();
    let first = strings(node, "spec.podCIDRs").next().map(str::to_owned);
    match first {
        None if !one.is_empty() => set(node, "spec.podCIDRs", json!([one])),
        Some(first) if one.is_empty() => set(node, "spec.podCIDR", first),
        _ => {}
    }
}

fn status(node: &Value) -> String {
    let ready = items(node, "status.conditions").iter().find(|condition| string(condition, "type") == "Ready");
    let mut status = ready
        .map_or("Unknown", |ready| if string(ready, "status") == "True" { "Ready" } else { "NotReady" })
        .to_owned();
    if boolean(node, "spec.unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = entries(node, "metadata.labels")
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) if !role.is_empty() => Some(role),
            None if key == ROLE => value.as_str().filter(|role| !role.is_empty()),
            _ => None,
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    items(node, "status.addresses")
        .iter()
        .find(|address| string(address, "type") == kind)
        .map_or("", |a| string(a, "address"))
}
