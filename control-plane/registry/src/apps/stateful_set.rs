//! StatefulSets: `ValidateStatefulSet`, `pkg/registry/apps/statefulset`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_machinery::selector::LabelSelector;
use xebec_machinery::validation;

use super::{CONTAINERS, IMAGES, collision_count, default_template, is_empty_selector, layout};
use super::{status_counts, status_order, template_warnings};
use crate::core::persistent_volume_claim;
use crate::errors::Errors;
use crate::meta;
use crate::names::{at_most_100_percent, int_or_percent, int_or_percent_value, label, not_negative};
use crate::strategy::{Column, Context, Strategy, age};
use crate::value::{at, default, default_string, integer, is_set, items_mut, object_mut, same, set, string};

/// What an update of the spec may change.
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];
const NOT_MUTABLE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

pub struct StatefulSet;

impl Strategy for StatefulSet {
    /// Pods get the name with their ordinal, and host names are labels.
    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        let name = if prefix { meta::mask_trailing_dash(name) } else { name.to_owned() };
        validation::dns1123_label(&name)
    }

    fn default(&self, set: &mut Value) {
        default_template(set);
        let Some(spec) = set.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        default_string(spec, "podManagementPolicy", "OrderedReady");
        object_mut(spec, "updateStrategy");
        let strategy = &mut spec["updateStrategy"];
        if string(strategy, "type").is_empty() {
            strategy["type"] = json!("RollingUpdate");
            object_mut(strategy, "rollingUpdate");
        }
        if string(strategy, "type") == "RollingUpdate" && is_set(strategy, "rollingUpdate") {
            default(&mut strategy["rollingUpdate"], "partition", 0);
        }
        object_mut(spec, "persistentVolumeClaimRetentionPolicy");
        for field in ["whenDeleted", "whenScaled"] {
            default_string(&mut spec["persistentVolumeClaimRetentionPolicy"], field, "Retain");
        }
        default(spec, "replicas", 1);
        default(spec, "revisionHistoryLimit", 10);
        for claim in items_mut(spec, "volumeClaimTemplates").filter(|claim| claim.is_object()) {
            default_string(claim, "apiVersion", "v1");
            default_string(claim, "kind", "PersistentVolumeClaim");
            persistent_volume_claim::default(claim);
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _context: &Context, object: &mut Value) {
        set(object, "status", json!({"replicas": 0, "availableReplicas": 0}));
    }

    fn validate_object(&self, set: &Value, errors: &mut Errors) {
        let name = string(set, "spec.serviceName");
        if !name.is_empty() {
            label(&Path::new("spec").child("serviceName"), name, errors);
        }
        validate_spec(at(set, "spec"), errors);
    }

    /// The name of a Service that was accepted before it was looked at stays (`AllowInvalidServiceName`).
    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_spec(at(new, "spec"), errors);
        let fixed = |object: &Value| {
            let mut spec = at(object, "spec").clone();
            MUTABLE.iter().for_each(|field| crate::value::remove(&mut spec, field));
            spec
        };
        if !same(&fixed(new), &fixed(old)) {
            errors.forbidden(&Path::new("spec"), NOT_MUTABLE);
        }
    }

    /// `ValidateStatefulSetStatus`.
    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let status = at(new, "status");
        let counts = [
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ];
        status_counts(status, &counts, errors);
        let all = "status.replicas";
        let pairs = [
            ("readyReplicas", "replicas", all),
            ("currentReplicas", "replicas", all),
            ("updatedReplicas", "replicas", all),
            ("availableReplicas", "replicas", all),
            ("availableReplicas", "readyReplicas", "status.readyReplicas"),
        ];
        status_order(status, &pairs, errors);
        collision_count(new, old, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = template_warnings(new, old);
        if integer(new, "spec.revisionHistoryLimit").is_some_and(|limit| limit < 0) {
            warnings.push(
                "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                    .to_owned(),
            );
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Ready", "How many of the wanted pods are ready."),
                Column::AGE,
                CONTAINERS,
                IMAGES,
            ]
        }
    }

    fn row(&self, set: &Value, now: OffsetDateTime) -> Vec<Value> {
        let count = |path| integer(set, path).unwrap_or(0);
        let ready = format!("{}/{}", count("status.readyReplicas"), count("spec.replicas"));
        let mut cells = vec![json!(meta::name(set)), json!(ready), age(set, now)];
        cells.extend(layout(at(set, "spec.template")));
        cells
    }
}

/// `ValidateStatefulSetSpec`.
fn validate_spec(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    match string(spec, "podManagementPolicy") {
        "" => errors.required(&path.child("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        other => errors.invalid(&path.child("podManagementPolicy"), other, "must be 'OrderedReady' or 'Parallel'"),
    }
    update_strategy(at(spec, "updateStrategy"), &path.child("updateStrategy"), errors);
    let retention = at(spec, "persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"].into_iter().filter(|_| !retention.is_null()) {
        let (policy, path) = (string(retention, field), path.child("persistentVolumeClaimRetentionPolicy"));
        if !["Retain", "Delete"].contains(&policy) {
            errors.not_supported(&path.child(field), policy, &["Retain", "Delete"]);
        }
    }
    not_negative(spec, "replicas", &path, errors);
    not_negative(spec, "minReadySeconds", &path, errors);
    if let Some(start) = integer(spec, "ordinals.start").filter(|start| *start < 0) {
        errors.invalid(&path.child("ordinals.start"), start, crate::names::NOT_NEGATIVE);
    }
    selector_and_template(spec, &path, errors);
}

fn update_strategy(strategy: &Value, path: &Path, errors: &mut Errors) {
    let (rolling, rolling_path) = (at(strategy, "rollingUpdate"), path.child("rollingUpdate"));
    match string(strategy, "type") {
        "" => errors.required(path, ""),
        "OnDelete" if !rolling.is_null() => {
            errors.invalid(&rolling_path, rolling.clone(), "only allowed for updateStrategy 'RollingUpdate'");
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            not_negative(rolling, "partition", &rolling_path, errors);
            let (unavailable, path) = (at(rolling, "maxUnavailable"), rolling_path.child("maxUnavailable"));
            if !unavailable.is_null() {
                int_or_percent(unavailable, &path, errors);
                if int_or_percent_value(unavailable) == 0 {
                    errors.invalid(&path, unavailable.clone(), "cannot be 0");
                }
                at_most_100_percent(unavailable, &path, errors);
            }
        }
        _ => errors.invalid(path, strategy.clone(), "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

/// The pod spec itself is not looked into: the volumes of its claims are not in it (`ValidatePodTemplateSpecForStatefulSet`).
fn selector_and_template(spec: &Value, path: &Path, errors: &mut Errors) {
    let (selector, selector_path) = (at(spec, "selector"), path.child("selector"));
    if selector.is_null() {
        errors.required(&selector_path, "");
    } else {
        meta::label_selector(selector, &selector_path, errors);
        if is_empty_selector(selector) {
            errors.invalid(&selector_path, selector.clone(), "empty selector is invalid for statefulset");
        }
    }
    let (template, path) = (at(spec, "template"), path.child("template"));
    match LabelSelector::from_object(selector) {
        Err(_) => errors.invalid(&selector_path, selector.clone(), ""),
        Ok(parsed) => {
            let labels = at(template, "metadata.labels");
            if !selector.is_null() && !is_empty_selector(selector) && !parsed.matches_object(template) {
                let path = path.child("metadata").child("labels");
                errors.invalid(&path, labels.clone(), "`selector` does not match template `labels`");
            }
            meta::labels(labels, &path.child("labels"), errors);
            meta::annotations(at(template, "metadata.annotations"), &path.child("annotations"), errors);
        }
    }
    let policy = string(template, "spec.restartPolicy");
    if policy != "Always" {
        errors.not_supported(&path.child("spec").child("restartPolicy"), policy, &["Always"]);
    }
    if is_set(template, "spec.activeDeadlineSeconds") {
        let path = path.child("spec").child("activeDeadlineSeconds");
        errors.forbidden(&path, "activeDeadlineSeconds in StatefulSet is not Supported");
    }
}
