//! Jobs: `pkg/registry/batch/job`, `ValidateJob`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_machinery::selector::LabelSelector;
use xebec_machinery::validation;

use super::{spec, status};
use crate::apps::{CONTAINERS, IMAGES, SELECTOR, container_cells};
use crate::errors::Errors;
use crate::names::pod_name_warning;
use crate::strategy::{Column, Context, Strategy, age};
use crate::value::{at, boolean, entries, integer, is_set, items, object_mut, same, set, string};
use crate::{duration, meta, pod};

const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
const COMPLETIONS_SOFT_MAX: i64 = 100_000;
const PARALLELISM_SOFT_MAX: i64 = 10_000;

pub struct Job;

impl Strategy for Job {
    fn default(&self, job: &mut Value) {
        if let Some(found) = job.get_mut("spec").filter(|spec| spec.is_object()) {
            spec::default(found);
        }
        let labels = at(job, "spec.template.metadata.labels").clone();
        if labels.is_object() && entries(job, "metadata.labels").next().is_none() {
            set(job, "metadata.labels", labels);
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn deletion_warning(&self) -> Option<&'static str> {
        Some(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
        )
    }

    fn prepare_for_create(&self, _context: &Context, job: &mut Value) {
        set(job, "status", json!({}));
        if !boolean(job, "spec.manualSelector") {
            generate_selector(job);
        }
    }

    fn validate_object(&self, job: &Value, errors: &mut Errors) {
        generated_selector(job, errors);
        spec_with_selector(job, errors);
        let completions = integer(job, "spec.completions").unwrap_or(0);
        if string(job, "spec.completionMode") == "Indexed" && completions > 0 {
            let host = format!("{}-{}", meta::name(job), completions - 1);
            if !validation::dns1123_label(&host).is_empty() {
                let detail = format!("will not able to create pod with invalid DNS label: {host}");
                errors.invalid(&Path::new("metadata").child("name"), meta::name(job), detail);
            }
        }
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        spec_with_selector(new, errors);
        let path = Path::new("spec");
        completions_update(new, old, &path.child("completions"), errors);
        errors.immutable(&path.child("selector"), at(new, "spec.selector"), at(old, "spec.selector"));
        template_update(new, old, &path.child("template"), errors);
        for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
            errors.immutable(&path.child(field), at(at(new, "spec"), field), at(at(old, "spec"), field));
        }
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        status::validate(new, old, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings: Vec<String> = pod_name_warning(new).filter(|_| old.is_none()).into_iter().collect();
        if old.is_none_or(|old| at(old, "spec.template") != at(new, "spec.template")) {
            let path = Path::new("spec").child("template");
            warnings.extend(pod::template_warnings(at(new, "spec.template"), &path));
        }
        let count = |field| integer(at(new, "spec"), field).unwrap_or(0);
        let is_large = count("completions") > COMPLETIONS_SOFT_MAX && count("parallelism") > PARALLELISM_SOFT_MAX;
        if old.is_none() && string(new, "spec.completionMode") == "Indexed" && is_large {
            warnings.push("In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail".to_owned());
        }
        warnings
    }

    fn fields(&self, job: &Value) -> Vec<(&'static str, String)> {
        vec![("status.successful", integer(job, "status.succeeded").unwrap_or(0).to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Status", "How the job is doing."),
                Column::string("Completions", "How many pods have succeeded, of how many wanted."),
                Column::string("Duration", "How long the job took, or has been running."),
                Column::AGE,
                CONTAINERS,
                IMAGES,
                SELECTOR,
            ]
        }
    }

    fn row(&self, job: &Value, now: OffsetDateTime) -> Vec<Value> {
        let mut cells = vec![
            json!(meta::name(job)),
            json!(state(job)),
            json!(completions(job)),
            json!(took(job, now)),
            age(job, now),
        ];
        cells.extend(container_cells(job));
        cells
    }
}

/// Whether a condition of the job is true.
pub(super) fn condition(job: &Value, kind: &str) -> bool {
    let of_kind = |condition: &&Value| string(condition, "type") == kind;
    items(job, "status.conditions").iter().find(of_kind).is_some_and(|found| string(found, "status") == "True")
}

/// Labels that tell this job's pods from all others, and the selector for them. What the user set stays, and is refused if it is wrong.
fn generate_selector(job: &mut Value) {
    let (uid, name) = (string(job, "metadata.uid").to_owned(), meta::name(job).to_owned());
    let labels = object_mut(job, "spec.template.metadata.labels");
    for (names, value) in [(NAME_LABELS, &name), (UID_LABELS, &uid)] {
        for label in names {
            labels.entry(label).or_insert_with(|| json!(value));
        }
    }
    object_mut(job, "spec.selector.matchLabels").entry(UID_LABELS[0]).or_insert_with(|| json!(uid));
}

/// `ValidateGeneratedSelector`.
fn generated_selector(job: &Value, errors: &mut Errors) {
    let selector = at(job, "spec.selector");
    if boolean(job, "spec.manualSelector") || selector.is_null() {
        return;
    }
    let (uid, name) = (string(job, "metadata.uid"), meta::name(job));
    if uid.is_empty() {
        errors.required(&Path::new("metadata").child("uid"), "");
    }
    let [prefixed_uid, legacy_uid] = UID_LABELS;
    let [prefixed_name, legacy_name] = NAME_LABELS;
    let expected = [(legacy_uid, uid), (legacy_name, name), (prefixed_uid, uid), (prefixed_name, name)];
    let labels = at(job, "spec.template.metadata.labels");
    let path = Path::new("spec").child("template").child("metadata").child("labels");
    for (label, value) in expected {
        match labels.get(label).and_then(Value::as_str) {
            None => errors.required(&path.key(label), format!("must be '{value}'")),
            Some(found) if found != value => {
                errors.invalid(&path.key(label), labels.clone(), format!("must be '{value}'"));
            }
            Some(_) => {}
        }
    }
    let matches = LabelSelector::from_object(selector)
        .map(|parsed| parsed.matches(|key| expected.iter().find(|(label, _)| *label == key).map(|(_, value)| *value)));
    if matches == Ok(false) {
        errors.invalid(&Path::new("spec").child("selector"), selector.clone(), "`selector` not auto-generated");
    }
}

/// `ValidateJobSpec`.
fn spec_with_selector(job: &Value, errors: &mut Errors) {
    let (found, path) = (at(job, "spec"), Path::new("spec"));
    spec::validate(found, &path, errors);
    let selector = at(found, "selector");
    if selector.is_null() {
        errors.required(&path.child("selector"), "");
    } else {
        meta::label_selector(selector, &path.child("selector"), errors);
    }
    let template = at(found, "template");
    if LabelSelector::from_object(selector).is_ok_and(|parsed| !parsed.matches_object(template)) {
        let path = path.child("template").child("metadata").child("labels");
        let labels = at(template, "metadata.labels").clone();
        errors.invalid(&path, labels, "`selector` does not match template `labels`");
    }
}

/// `validateCompletions`: an indexed job grows and shrinks with its parallelism.
fn completions_update(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let (after, before) = (at(new, "spec.completions"), at(old, "spec.completions"));
    if string(new, "spec.completionMode") != "Indexed" {
        errors.immutable(path, after, before);
    } else if after != before && !after.is_null() && after != at(new, "spec.parallelism") {
        errors.invalid(path, after.clone(), "can only be modified in tandem with spec.parallelism");
    }
}

/// `validatePodTemplateUpdate`: where pods go may change while a suspended job has not started.
fn template_update(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let template = at(new, "spec.template");
    let mut allowed = at(old, "spec.template").clone();
    if boolean(old, "spec.suspend") && !is_set(old, "status.startTime") {
        let free = [
            "spec.affinity.nodeAffinity",
            "spec.nodeSelector",
            "spec.tolerations",
            "spec.schedulingGates",
            "metadata.annotations",
            "metadata.labels",
        ];
        for field in free {
            crate::value::keep(&mut allowed, template, field);
        }
    }
    // An affinity without anything in it is none.
    let without_empty_affinity = |template: &Value| {
        let mut template = template.clone();
        if entries(&template, "spec.affinity").next().is_none() {
            crate::value::remove(&mut template, "spec.affinity");
        }
        template
    };
    if !same(&without_empty_affinity(template), &without_empty_affinity(&allowed)) {
        errors.invalid(path, template.clone(), "field is immutable");
    }
}

/// `printJob`.
fn state(job: &Value) -> &'static str {
    match () {
        () if condition(job, "Complete") => "Complete",
        () if condition(job, "Failed") => "Failed",
        () if is_set(job, "metadata.deletionTimestamp") => "Terminating",
        () if condition(job, "Suspended") => "Suspended",
        () if condition(job, "FailureTarget") => "FailureTarget",
        () if condition(job, "SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Value) -> String {
    let succeeded = integer(job, "status.succeeded").unwrap_or(0);
    match (integer(job, "spec.completions"), integer(job, "spec.parallelism").unwrap_or(0)) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn took(job: &Value, now: OffsetDateTime) -> String {
    let time = |path| duration::parse(string(job, path));
    time("status.startTime")
        .map(|start| duration::human(time("status.completionTime").unwrap_or(now) - start))
        .unwrap_or_default()
}
