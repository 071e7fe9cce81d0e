//! DaemonSets: `ValidateDaemonSet`, `pkg/registry/apps/daemonset`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_machinery::selector::LabelSelector;

use super::{CONTAINERS, IMAGES, SELECTOR, collision_count, container_cells, default_template, status_counts};
use super::{is_empty_selector, template_warnings};
use crate::errors::Errors;
use crate::names::{at_most_100_percent, int_or_percent, int_or_percent_value, not_negative};
use crate::strategy::{Column, Context, Strategy, age};
use crate::value::{at, default, integer, is_set, object_mut, same, set, string};
use crate::{meta, pod};

/// The template's generation, which apps/v1 keeps in this annotation (`pkg/apis/apps/v1/conversion.go`).
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub struct DaemonSet;

impl Strategy for DaemonSet {
    fn default(&self, set: &mut Value) {
        default_template(set);
        let Some(spec) = set.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        let strategy = Value::Object(object_mut(spec, "updateStrategy").clone());
        if string(&strategy, "type").is_empty() {
            crate::value::set(spec, "updateStrategy.type", "RollingUpdate");
        }
        if string(spec, "updateStrategy.type") == "RollingUpdate" {
            object_mut(spec, "updateStrategy.rollingUpdate");
            let rolling = &mut spec["updateStrategy"]["rollingUpdate"];
            default(rolling, "maxUnavailable", 1);
            default(rolling, "maxSurge", 0);
        }
        default(spec, "revisionHistoryLimit", 10);
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _context: &Context, object: &mut Value) {
        set(
            object,
            "status",
            json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0}),
        );
        put_template_generation(object, template_generation(object).max(1));
    }

    fn prepare_for_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        crate::value::keep(new, old, "status");
        let changed = !same(at(new, "spec.template"), at(old, "spec.template"));
        put_template_generation(new, template_generation(old) + i64::from(changed));
    }

    fn validate_object(&self, set: &Value, errors: &mut Errors) {
        let (spec, path) = (at(set, "spec"), Path::new("spec"));
        let (selector, template) = (at(spec, "selector"), at(spec, "template"));
        meta::label_selector(selector, &path.child("selector"), errors);
        let template_path = path.child("template");
        if LabelSelector::from_object(selector).is_ok_and(|parsed| !parsed.matches_object(template))
            || selector.is_null()
        {
            let labels = at(template, "metadata.labels").clone();
            let detail = "`selector` does not match template `labels`";
            errors.invalid(&template_path.child("metadata").child("labels"), labels, detail);
        }
        if !selector.is_null() && is_empty_selector(selector) {
            errors.invalid(&path.child("selector"), selector.clone(), "empty selector is invalid for daemonset");
        }
        pod::template(template, &template_path, errors);
        let policy = string(template, "spec.restartPolicy");
        if policy != "Always" {
            errors.not_supported(&template_path.child("spec").child("restartPolicy"), policy, &["Always"]);
        }
        if is_set(template, "spec.activeDeadlineSeconds") {
            let path = template_path.child("spec").child("activeDeadlineSeconds");
            errors.forbidden(&path, "activeDeadlineSeconds in DaemonSet is not Supported");
        }
        not_negative(spec, "minReadySeconds", &path, errors);
        update_strategy(at(spec, "updateStrategy"), &path.child("updateStrategy"), errors);
        not_negative(spec, "revisionHistoryLimit", &path, errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_object(new, errors);
        errors.immutable(&Path::new("spec").child("selector"), at(new, "spec.selector"), at(old, "spec.selector"));
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let counts = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        status_counts(at(new, "status"), &counts, errors);
        collision_count(new, old, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        template_warnings(new, old)
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::integer("Desired", "How many nodes should have a pod."),
                Column::integer("Current", "How many of them have one."),
                Column::integer("Ready", "How many pods are ready."),
                Column::integer("Up-to-date", "How many pods have the wanted template."),
                Column::integer("Available", "How many pods have been ready for minReadySeconds."),
                Column::string("Node Selector", "The labels of the nodes that get a pod."),
                Column::AGE,
                CONTAINERS,
                IMAGES,
                SELECTOR,
            ]
        }
    }

    fn row(&self, set: &Value, now: OffsetDateTime) -> Vec<Value> {
        let count = |field| json!(integer(at(set, "status"), field).unwrap_or(0));
        let mut cells = vec![
            json!(meta::name(set)),
            count("desiredNumberScheduled"),
            count("currentNumberScheduled"),
            count("numberReady"),
            count("updatedNumberScheduled"),
            count("numberAvailable"),
            json!(meta::format_labels(at(set, "spec.template.spec.nodeSelector"))),
            age(set, now),
        ];
        cells.extend(container_cells(set));
        cells
    }
}

fn template_generation(set: &Value) -> i64 {
    let annotation = at(set, "metadata.annotations").get(TEMPLATE_GENERATION);
    annotation.and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn put_template_generation(set: &mut Value, generation: i64) {
    object_mut(set, "metadata.annotations").insert(TEMPLATE_GENERATION.to_owned(), json!(generation.to_string()));
}

/// `ValidateDaemonSetUpdateStrategy`.
fn update_strategy(strategy: &Value, path: &Path, errors: &mut Errors) {
    match string(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" if !is_set(strategy, "rollingUpdate") => errors.required(&path.child("rollingUpdate"), ""),
        "RollingUpdate" => rolling_update(at(strategy, "rollingUpdate"), &path.child("rollingUpdate"), errors),
        _ => errors.not_supported(path, strategy.clone(), &["RollingUpdate", "OnDelete"]),
    }
}

fn rolling_update(rolling: &Value, path: &Path, errors: &mut Errors) {
    let fields = ["maxUnavailable", "maxSurge"];
    for field in fields {
        int_or_percent(at(rolling, field), &path.child(field), errors);
    }
    for field in fields {
        at_most_100_percent(at(rolling, field), &path.child(field), errors);
    }
    match fields.map(|field| int_or_percent_value(at(rolling, field)) != 0) {
        [true, true] => {
            let surge = at(rolling, "maxSurge").clone();
            errors.invalid(&path.child("maxSurge"), surge, "may not be set when maxUnavailable is non-zero");
        }
        [false, false] => errors.required(&path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}
