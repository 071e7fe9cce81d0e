//! autoscaling/v1 and v2 are two forms of one object: `pkg/apis/autoscaling/v1/conversion.go`. What v1 has no field for travels in annotations.

use serde_json::{Map, Value, json};

use crate::value::{at, entries, integer, items, object_mut, set, string};

const V1: &str = "autoscaling/v1";
const V2: &str = "autoscaling/v2";
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// An autoscaler as v1 has it.
pub fn to_v1(autoscaler: &Value) -> Value {
    if string(autoscaler, "apiVersion") != V2 {
        return autoscaler.clone();
    }
    let (spec, status) = (at(autoscaler, "spec"), at(autoscaler, "status"));
    let mut converted = autoscaler.clone();
    converted["apiVersion"] = json!(V1);
    let metrics = items(spec, "metrics");
    let mut new_spec = pick(spec, &["scaleTargetRef", "minReplicas", "maxReplicas"]);
    if let Some(percent) = cpu(metrics).and_then(|resource| integer(resource, "target.averageUtilization")) {
        new_spec.insert("targetCPUUtilizationPercentage".to_owned(), json!(percent));
    }
    if !spec.is_null() {
        converted["spec"] = new_spec.into();
    }
    let mut new_status = pick(status, &["observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas"]);
    let current = items(status, "currentMetrics");
    if let Some(percent) = cpu(current).and_then(|resource| integer(resource, "current.averageUtilization")) {
        new_status.insert("currentCPUUtilizationPercentage".to_owned(), json!(percent));
    }
    if !status.is_null() {
        converted["status"] = new_status.into();
    }
    let others: Vec<Value> =
        metrics.iter().filter(|m| !is_cpu_utilization(m)).map(|m| metric_to_v1(m, false)).collect();
    let seen: Vec<Value> = current.iter().map(|metric| metric_to_v1(metric, true)).collect();
    let mut annotate = |name: &str, value: Value| {
        object_mut(&mut converted, "metadata.annotations").insert(name.to_owned(), json!(value.to_string()));
    };
    if !others.is_empty() {
        annotate(METRICS, others.into());
    }
    if !seen.is_empty() {
        annotate(CURRENT_METRICS, seen.into());
    }
    if !items(status, "conditions").is_empty() {
        annotate(CONDITIONS, at(status, "conditions").clone());
    }
    if !at(spec, "behavior").is_null() {
        annotate(BEHAVIOR, at(spec, "behavior").clone());
    }
    converted
}

/// An autoscaler as it is stored. Annotations that are not what v1 makes of an object are dropped: anyone can write them.
pub fn from_v1(autoscaler: &Value) -> Value {
    if string(autoscaler, "apiVersion") != V1 {
        return autoscaler.clone();
    }
    let (spec, status) = (at(autoscaler, "spec"), at(autoscaler, "status"));
    let mut converted = autoscaler.clone();
    converted["apiVersion"] = json!(V2);
    let annotation = |name: &str| -> Option<Value> {
        let text = at(autoscaler, "metadata.annotations").get(name)?.as_str()?;
        serde_json::from_str(text).ok()
    };
    let list = |name: &str| match annotation(name) {
        Some(Value::Array(list)) if list.iter().all(Value::is_object) => list,
        _ => Vec::new(),
    };
    let mut metrics = Vec::new();
    if let Some(percent) = integer(spec, "targetCPUUtilizationPercentage") {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    metrics.extend(list(METRICS).iter().map(|metric| metric_from_v1(metric, false)));
    let mut new_spec = pick(spec, &["scaleTargetRef", "minReplicas", "maxReplicas"]);
    if !metrics.is_empty() {
        new_spec.insert("metrics".to_owned(), metrics.into());
    }
    if let Some(behavior @ Value::Object(_)) = annotation(BEHAVIOR) {
        new_spec.insert("behavior".to_owned(), behavior);
    }
    if !spec.is_null() {
        converted["spec"] = new_spec.into();
    }
    let mut new_status = pick(status, &["observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas"]);
    let mut current: Vec<Value> = list(CURRENT_METRICS).iter().map(|metric| metric_from_v1(metric, true)).collect();
    if let Some(percent) = integer(status, "currentCPUUtilizationPercentage").filter(|_| current.is_empty()) {
        let found = json!({"name": "cpu", "current": {"averageUtilization": percent}});
        current.push(json!({"type": "Resource", "resource": found}));
    }
    if !current.is_empty() {
        new_status.insert("currentMetrics".to_owned(), current.into());
    }
    let conditions = list(CONDITIONS);
    if !conditions.is_empty() {
        new_status.insert("conditions".to_owned(), conditions.into());
    }
    if !status.is_null() || !new_status.is_empty() {
        converted["status"] = new_status.into();
    }
    drop_annotations(&mut converted);
    converted
}

fn pick(object: &Value, fields: &[&str]) -> Map<String, Value> {
    let set = fields.iter().filter(|field| !at(object, field).is_null());
    set.map(|field| ((*field).to_owned(), at(object, field).clone())).collect()
}

/// The CPU resource among metrics.
fn cpu(metrics: &[Value]) -> Option<&Value> {
    let resources = metrics.iter().filter(|metric| string(metric, "type") == "Resource");
    resources.map(|metric| at(metric, "resource")).find(|resource| string(resource, "name") == "cpu")
}

/// What v1 has a field for.
fn is_cpu_utilization(metric: &Value) -> bool {
    string(metric, "type") == "Resource"
        && string(metric, "resource.name") == "cpu"
        && integer(metric, "resource.target.averageUtilization").is_some()
}

/// `DropRoundTripHorizontalPodAutoscalerAnnotations`.
fn drop_annotations(autoscaler: &mut Value) {
    let had = entries(autoscaler, "metadata.annotations").next().is_some();
    if let Some(annotations) = autoscaler.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        for name in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR] {
            annotations.remove(name);
        }
        if had && annotations.is_empty() {
            crate::value::remove(autoscaler, "metadata.annotations");
        }
    }
}

/// Fields of a metric's source: `(kind, field in v2, field in v1 of a spec, field in v1 of a status)`; empty where one has none.
const FIELDS: &[(&str, &str, &str, &str)] = &[
    ("resource", "name", "name", "name"),
    ("resource", "%.averageUtilization", "targetAverageUtilization", "currentAverageUtilization"),
    ("resource", "%.averageValue", "targetAverageValue", "currentAverageValue"),
    ("containerResource", "name", "name", "name"),
    ("containerResource", "container", "container", "container"),
    ("containerResource", "%.averageUtilization", "targetAverageUtilization", "currentAverageUtilization"),
    ("containerResource", "%.averageValue", "targetAverageValue", "currentAverageValue"),
    ("pods", "metric.name", "metricName", "metricName"),
    ("pods", "metric.selector", "selector", "selector"),
    ("pods", "%.averageValue", "targetAverageValue", "currentAverageValue"),
    ("object", "describedObject", "target", "target"),
    ("object", "metric.name", "metricName", "metricName"),
    ("object", "metric.selector", "selector", "selector"),
    ("object", "%.value", "targetValue", "currentValue"),
    ("object", "%.averageValue", "averageValue", "averageValue"),
    ("external", "metric.name", "metricName", "metricName"),
    ("external", "metric.selector", "metricSelector", "metricSelector"),
    ("external", "%.value", "targetValue", "currentValue"),
    ("external", "%.averageValue", "targetAverageValue", "currentAverageValue"),
];

/// Where a field is in v2: a spec has a target, a status what is current.
fn v2_path(field: &str, is_status: bool) -> String {
    field.replace('%', if is_status { "current" } else { "target" })
}

fn metric_to_v1(metric: &Value, is_status: bool) -> Value {
    let mut converted = json!({"type": string(metric, "type")});
    for (kind, field, in_spec, in_status) in FIELDS {
        let value = at(at(metric, kind), &v2_path(field, is_status));
        if !value.is_null() {
            let name = if is_status { in_status } else { in_spec };
            object_mut(&mut converted, kind).insert((*name).to_owned(), value.clone());
        }
    }
    converted
}

fn metric_from_v1(metric: &Value, is_status: bool) -> Value {
    let mut converted = json!({"type": string(metric, "type")});
    for (kind, field, in_spec, in_status) in FIELDS {
        let value = at(at(metric, kind), if is_status { in_status } else { in_spec });
        if !value.is_null() {
            set(&mut converted, &format!("{kind}.{}", v2_path(field, is_status)), value.clone());
        }
    }
    if !is_status {
        for kind in ["resource", "containerResource", "pods", "object", "external"] {
            if !at(&converted, kind).is_null() {
                let target = target_type(at(at(&converted, kind), "target"));
                set(&mut converted, &format!("{kind}.target.type"), target);
            }
        }
    }
    converted
}

/// Which kind of target the fields make.
fn target_type(target: &Value) -> &'static str {
    match () {
        () if !at(target, "averageUtilization").is_null() => "Utilization",
        () if !at(target, "averageValue").is_null() => "AverageValue",
        () => "Value",
    }
}
