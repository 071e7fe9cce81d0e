//! `JobSpec`, of jobs and of the templates of cron jobs: defaults and `validateJobSpec`.

use serde_json::Value;
use xebec_machinery::field::Path;

use super::policies;
use crate::errors::Errors;
use crate::names::{domain_prefixed_path, not_negative};
use crate::pod;
use crate::value::{at, at_mut, default as fill, default_string, integer, is_set, items_mut, string};

const MANAGED_BY_BYTES_MAX: usize = 63;
const INDEXED_PARALLELISM_MAX: i64 = 100_000;
const FAILED_INDEXES_MAX: i64 = 100_000;
const COMPLETIONS_SOFT_MAX: i64 = 100_000;
const HIGH_COMPLETIONS_MAX: i64 = 10_000;

/// `SetDefaults_Job`.
pub fn default(spec: &mut Value) {
    default_nested(spec);
    // A job that says nothing runs one pod once; one that says how many at a time runs until some pod succeeds.
    if !is_set(spec, "completions") && !is_set(spec, "parallelism") {
        fill(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    let backoff = if is_set(spec, "backoffLimitPerIndex") { i64::from(i32::MAX) } else { 6 };
    fill(spec, "backoffLimit", backoff);
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    fill(spec, "manualSelector", false);
    let replacement = if is_set(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    fill(spec, "podReplacementPolicy", replacement);
}

/// Defaults of the types inside, which the template of a cron job gets as well.
pub fn default_nested(spec: &mut Value) {
    if let Some(pod) = at_mut(spec, "template.spec") {
        pod::defaults::spec(pod);
    }
    for rule in items_mut(spec, "podFailurePolicy.rules") {
        for pattern in items_mut(rule, "onPodConditions").filter(|pattern| pattern.is_object()) {
            default_string(pattern, "status", "True");
        }
    }
}

pub fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    let counts = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    for field in counts {
        not_negative(spec, field, path, errors);
    }
    let per_index = is_set(spec, "backoffLimitPerIndex");
    if is_set(spec, "maxFailedIndexes") && !per_index {
        errors.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    managed_by(spec, &path.child("managedBy"), errors);
    match string(spec, "completionMode") {
        "" | "NonIndexed" => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(value) = integer(spec, field) {
                    errors.invalid(&path.child(field), value, "requires indexed completion mode");
                }
            }
        }
        "Indexed" => indexed(spec, path, errors),
        other => errors.not_supported(&path.child("completionMode"), other, &["NonIndexed", "Indexed"]),
    }
    policies::validate(spec, path, errors);
    pod::template(at(spec, "template"), &path.child("template"), errors);
    restart_policy(spec, &path.child("template").child("spec").child("restartPolicy"), errors);
}

fn managed_by(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(manager) = at(spec, "managedBy").as_str() else { return };
    domain_prefixed_path(path, manager, errors);
    if manager.len() > MANAGED_BY_BYTES_MAX {
        errors.too_long(path, MANAGED_BY_BYTES_MAX);
    }
}

fn indexed(spec: &Value, path: &Path, errors: &mut Errors) {
    let (completions, parallelism) = (integer(spec, "completions"), integer(spec, "parallelism").unwrap_or(0));
    let failed = integer(spec, "maxFailedIndexes");
    let (parallelism_path, failed_path) = (path.child("parallelism"), path.child("maxFailedIndexes"));
    if completions.is_none() {
        errors.required(&path.child("completions"), "when completion mode is Indexed");
    }
    if parallelism > INDEXED_PARALLELISM_MAX {
        let detail = format!("must be less than or equal to {INDEXED_PARALLELISM_MAX} when completion mode is Indexed");
        errors.invalid(&parallelism_path, parallelism, detail);
    }
    if let Some(failed) = failed {
        if completions.is_some_and(|completions| failed > completions) {
            errors.invalid(&failed_path, failed, "must be less than or equal to completions");
        }
        if failed > FAILED_INDEXES_MAX {
            errors.invalid(&failed_path, failed, format!("must be less than or equal to {FAILED_INDEXES_MAX}"));
        }
    }
    if completions.is_none_or(|completions| completions <= COMPLETIONS_SOFT_MAX)
        || !is_set(spec, "backoffLimitPerIndex")
    {
        return;
    }
    let detail = format!(
        "must be less than or equal to {HIGH_COMPLETIONS_MAX} when completions are above {COMPLETIONS_SOFT_MAX} and used with backoff limit per index"
    );
    if failed.is_none() {
        let detail = format!("must be specified when completions is above {COMPLETIONS_SOFT_MAX}");
        errors.required(&failed_path, detail);
    }
    if parallelism > HIGH_COMPLETIONS_MAX {
        errors.invalid(&parallelism_path, parallelism, detail.as_str());
    }
    if let Some(failed) = failed.filter(|failed| *failed > HIGH_COMPLETIONS_MAX) {
        errors.invalid(&failed_path, failed, detail);
    }
}

fn restart_policy(spec: &Value, path: &Path, errors: &mut Errors) {
    match string(spec, "template.spec.restartPolicy") {
        "" | "Always" => errors.required(path, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if is_set(spec, "podFailurePolicy") => {
            errors.invalid(path, "OnFailure", "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" | "Never" => {}
        other => errors.not_supported(path, other, &["OnFailure", "Never"]),
    }
}
