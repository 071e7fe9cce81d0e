//! Pods, and the pod templates of workloads.

pub mod binding;
pub mod defaults;
pub mod qos;
pub mod resources;

mod affinity;
mod container;
mod env;
pub mod ephemeral;
mod print;
mod probe;
pub mod resize;
mod resource_claim;
mod security;
mod spec;
mod update;
mod volume;
mod warnings;

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;

pub use affinity::{node_selector_term, tolerations};
pub use container::PROTOCOLS;
pub use volume::host_path;

use crate::errors::Errors;
use crate::meta;
use crate::strategy::{Column, Context, DeleteOptions, Fields, Grace, Strategy};
use crate::value::{at, boolean, integer, items, keep, object_mut, set, string};

/// `pkg/registry/core/pod`.
pub struct Pod;

impl Strategy for Pod {
    fn default(&self, pod: &mut Value) {
        if let Some(spec) = pod.get_mut("spec") {
            defaults::spec(spec);
        }
        defaults::pod(pod);
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, context: &Context, pod: &mut Value) {
        let class = qos::class(pod);
        pod["status"] = json!({"phase": "Pending", "qosClass": class});
        if !items(pod, "spec.schedulingGates").is_empty() {
            let condition = json!({
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            });
            set_condition(pod, condition, &context.now_rfc3339());
        }
    }

    fn validate_object(&self, pod: &Value, errors: &mut Errors) {
        let path = Path::new("spec");
        spec::validate(at(pod, "spec"), &path, errors);
        pod_only(pod, &path, errors);
        if !items(pod, "spec.ephemeralContainers").is_empty() {
            errors.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
        }
        if !string(pod, "spec.nodeName").is_empty() && !items(pod, "spec.schedulingGates").is_empty() {
            errors.forbidden(&path.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
        }
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        spec::validate(at(new, "spec"), &Path::new("spec"), errors);
        update::validate(new, old, errors);
    }

    fn prepare_for_status_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        // Unlike other kinds', a pod's labels and annotations may come with its status (kubelets did so); old kubelets corrupt owners.
        for path in
            ["spec", "metadata.ownerReferences", "metadata.deletionTimestamp", "metadata.generation", "status.qosClass"]
        {
            keep(new, old, path);
        }
    }

    fn status_resets(&self) -> Fields {
        &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]]
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        update::validate_status(new, old, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        // An update cannot change what is warned about.
        if old.is_some() { Vec::new() } else { warnings::of_spec(at(new, "spec"), &Path::new("spec")) }
    }

    fn fields(&self, pod: &Value) -> Vec<(&'static str, String)> {
        let text = |path| string(pod, path).to_owned();
        let ip = items(pod, "status.podIPs").first().map_or("", |ip| string(ip, "ip"));
        vec![
            ("spec.nodeName", text("spec.nodeName")),
            ("spec.restartPolicy", text("spec.restartPolicy")),
            ("spec.schedulerName", text("spec.schedulerName")),
            ("spec.serviceAccountName", text("spec.serviceAccountName")),
            ("spec.hostNetwork", boolean(pod, "spec.hostNetwork").to_string()),
            ("status.phase", text("status.phase")),
            ("status.podIP", ip.to_owned()),
            ("status.nominatedNodeName", text("status.nominatedNodeName")),
        ]
    }

    /// `CheckGracefulDelete`.
    fn graceful_delete(&self, pod: &Value, options: &DeleteOptions) -> Grace {
        let asked = options.grace_period_seconds.or_else(|| integer(pod, "spec.terminationGracePeriodSeconds"));
        let ended = ["Succeeded", "Failed"].contains(&string(pod, "status.phase"));
        match asked.unwrap_or(0) {
            _ if string(pod, "spec.nodeName").is_empty() || ended => Grace::Seconds(0),
            seconds if seconds < 0 => Grace::Seconds(1),
            seconds => Grace::Seconds(seconds),
        }
    }

    fn columns(&self) -> &'static [Column] {
        print::COLUMNS
    }

    fn row(&self, pod: &Value, now: OffsetDateTime) -> Vec<Value> {
        print::row(pod, now)
    }
}

/// `ValidatePodTemplateSpec`.
pub fn template(template: &Value, path: &Path, errors: &mut Errors) {
    let metadata = path.child("metadata");
    meta::labels(at(template, "metadata.labels"), &metadata.child("labels"), errors);
    meta::annotations(at(template, "metadata.annotations"), &metadata.child("annotations"), errors);
    spec::validate(at(template, "spec"), &path.child("spec"), errors);
    if !items(template, "spec.ephemeralContainers").is_empty() {
        errors.forbidden(
            &path.child("spec").child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// Warnings about a template, with the paths it has in its workload.
pub fn template_warnings(template: &Value, path: &Path) -> Vec<String> {
    warnings::of_spec(at(template, "spec"), &path.child("spec"))
}

/// Sets a condition of `status.conditions`; the transition time changes with the status only.
pub fn set_condition(object: &mut Value, condition: Value, now_rfc3339: &str) {
    let kind = string(&condition, "type").to_owned();
    let mut condition = condition;
    let list = object_mut(object, "status").entry("conditions").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else { return };
    let found = list.iter_mut().find(|existing| string(existing, "type") == kind);
    let since = found
        .as_deref()
        .filter(|existing| string(existing, "status") == string(&condition, "status"))
        .map_or(now_rfc3339, |existing| string(existing, "lastTransitionTime"));
    let since = since.to_owned();
    set(&mut condition, "lastTransitionTime", since);
    match found {
        Some(existing) => *existing = condition,
        None => list.push(condition),
    }
}

/// Rules for pods that their templates are free of.
fn pod_only(pod: &Value, path: &Path, errors: &mut Errors) {
    if !boolean(pod, "spec.hostNetwork") {
        return;
    }
    for (index, container) in items(pod, "spec.containers").iter().enumerate() {
        for (number, port) in items(container, "ports").iter().enumerate() {
            if integer(port, "hostPort").unwrap_or(0) == 0 {
                let path = path.child("containers").index(index).child("ports").index(number).child("hostPort");
                errors.invalid(&path, 0, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

#[cfg(test)]
mod tests;
