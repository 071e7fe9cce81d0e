//! Deployments: `pkg/apis/apps/v1/defaults.go`, `ValidateDeployment`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;

use super::{
    CONTAINERS, IMAGES, SELECTOR, container_cells, default_template, template_warnings, validate_selector_and_template,
};
use crate::errors::Errors;
use crate::names::{at_most_100_percent, int_or_percent, int_or_percent_value, not_negative, pod_name_warning};
use crate::strategy::{Column, Context, Fields, Strategy, age};
use crate::value::{at, at_mut, default, integer, is_set, keep, same, set, string};

pub struct Deployment;

impl Strategy for Deployment {
    fn default(&self, deployment: &mut Value) {
        default_template(deployment);
        let Some(spec) = deployment.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        default(spec, "replicas", 1);
        if !is_set(spec, "strategy.type") || string(spec, "strategy.type").is_empty() {
            set(spec, "strategy.type", "RollingUpdate");
        }
        if string(spec, "strategy.type") == "RollingUpdate" {
            if !is_set(spec, "strategy.rollingUpdate") {
                set(spec, "strategy.rollingUpdate", json!({}));
            }
            if let Some(rolling) = at_mut(spec, "strategy.rollingUpdate") {
                default(rolling, "maxUnavailable", "25%");
                default(rolling, "maxSurge", "25%");
            }
        }
        default(spec, "revisionHistoryLimit", 10);
        default(spec, "progressDeadlineSeconds", 600);
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    /// Annotations count as well: the revision and the change cause are among them.
    fn spec_changed(&self, new: &Value, old: &Value) -> bool {
        ["spec", "metadata.annotations"].iter().any(|path| !same(at(new, path), at(old, path)))
    }

    fn prepare_for_status_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        keep(new, old, "metadata.labels");
    }

    fn status_resets(&self) -> Fields {
        &[&["spec"], &["metadata", "labels"]]
    }

    fn validate_object(&self, deployment: &Value, errors: &mut Errors) {
        let (spec, path) = (at(deployment, "spec"), Path::new("spec"));
        not_negative(spec, "replicas", &path, errors);
        validate_selector_and_template(deployment, "deployment", errors);
        validate_strategy(at(spec, "strategy"), &path.child("strategy"), errors);
        for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
            not_negative(spec, field, &path, errors);
        }
        let deadline = integer(spec, "progressDeadlineSeconds");
        if let Some(deadline) = deadline.filter(|d| *d <= integer(spec, "minReadySeconds").unwrap_or(0)) {
            errors.invalid(&path.child("progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds");
        }
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_object(new, errors);
        errors.immutable(&Path::new("spec").child("selector"), at(new, "spec.selector"), at(old, "spec.selector"));
    }

    /// `ValidateDeploymentStatus`.
    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (status, path) = (at(new, "status"), Path::new("status"));
        let counts = [
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
        ];
        for field in counts.into_iter().chain(["collisionCount"]) {
            not_negative(status, field, &path, errors);
        }
        let count = |field| integer(status, field).unwrap_or(0);
        for (less, more) in [
            ("updatedReplicas", "replicas"),
            ("readyReplicas", "replicas"),
            ("availableReplicas", "replicas"),
            ("availableReplicas", "readyReplicas"),
        ] {
            if count(less) > count(more) {
                let than = if more == "replicas" { "status.replicas" } else { "readyReplicas" };
                errors.invalid(&path.child(less), count(less), format!("cannot be greater than {than}"));
            }
        }
        let before = integer(old, "status.collisionCount").unwrap_or(0);
        if let Some(after) = integer(status, "collisionCount").filter(|after| *after < before) {
            errors.invalid(&path.child("collisionCount"), after, "cannot be decremented");
        }
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let name = pod_name_warning(new).filter(|_| old.is_none());
        name.into_iter().chain(template_warnings(new, old)).collect()
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Ready", "How many of the wanted pods are ready."),
                Column::integer("Up-to-date", "How many pods have the wanted template."),
                Column::integer("Available", "How many pods have been ready for minReadySeconds."),
                Column::AGE,
                CONTAINERS,
                IMAGES,
                SELECTOR,
            ]
        }
    }

    fn row(&self, deployment: &Value, now: OffsetDateTime) -> Vec<Value> {
        let count = |path| integer(deployment, path).unwrap_or(0);
        let mut cells = vec![
            json!(crate::meta::name(deployment)),
            json!(format!("{}/{}", count("status.readyReplicas"), count("spec.replicas"))),
            json!(count("status.updatedReplicas")),
            json!(count("status.availableReplicas")),
            age(deployment, now),
        ];
        cells.extend(container_cells(deployment));
        cells
    }
}

fn validate_strategy(strategy: &Value, path: &Path, errors: &mut Errors) {
    let (rolling, rolling_path) = (at(strategy, "rollingUpdate"), path.child("rollingUpdate"));
    match string(strategy, "type") {
        "Recreate" => {
            if !rolling.is_null() {
                errors.forbidden(&rolling_path, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" if rolling.is_null() => {
            errors.required(&rolling_path, "this should be defaulted and never be nil")
        }
        "RollingUpdate" => {
            let (unavailable, surge) = (at(rolling, "maxUnavailable"), at(rolling, "maxSurge"));
            let unavailable_path = rolling_path.child("maxUnavailable");
            int_or_percent(unavailable, &unavailable_path, errors);
            int_or_percent(surge, &rolling_path.child("maxSurge"), errors);
            if int_or_percent_value(unavailable) == 0 && int_or_percent_value(surge) == 0 {
                errors.invalid(&unavailable_path, unavailable.clone(), "may not be 0 when `maxSurge` is 0");
            }
            at_most_100_percent(unavailable, &unavailable_path, errors);
        }
        other => errors.not_supported(&path.child("type"), other, &["Recreate", "RollingUpdate"]),
    }
}
