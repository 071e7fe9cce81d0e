//! `printHorizontalPodAutoscaler`.

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::pod::resources::quantity;
use crate::strategy::{Column, named};
use crate::value::{at, integer, is_set, items, string};

pub const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("Reference", "What is scaled."),
    Column::string("Targets", "What is measured, and what it should be."),
    Column::string("MinPods", "The least number of pods."),
    Column::string("MaxPods", "The greatest number of pods."),
    Column::string("Replicas", "How many pods there are."),
    Column::AGE,
];
const METRICS_MAX: usize = 2;
const UNKNOWN: &str = "<unknown>";

pub fn row(autoscaler: &Value, now: OffsetDateTime) -> Vec<Value> {
    let (spec, status) = (at(autoscaler, "spec"), at(autoscaler, "status"));
    let target = at(spec, "scaleTargetRef");
    let min = integer(spec, "minReplicas").map_or_else(|| "<unset>".to_owned(), |min| min.to_string());
    let cells = [
        json!(format!("{}/{}", string(target, "kind"), string(target, "name"))),
        json!(metrics(items(spec, "metrics"), items(status, "currentMetrics"))),
        json!(min),
        json!(integer(spec, "maxReplicas").unwrap_or(0)),
        json!(integer(status, "currentReplicas").unwrap_or(0)),
    ];
    named(autoscaler, now, cells)
}

/// `formatHPAMetrics`.
fn metrics(specs: &[Value], statuses: &[Value]) -> String {
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let status = |index: usize| statuses.get(index).unwrap_or(&Value::Null);
    let list: Vec<String> = specs.iter().enumerate().map(|(index, spec)| metric(spec, status(index))).collect();
    let shown = list[..list.len().min(METRICS_MAX)].join(", ");
    match list.len() {
        count if count > METRICS_MAX => format!("{shown} + {} more...", count - METRICS_MAX),
        _ => shown,
    }
}

fn metric(spec: &Value, status: &Value) -> String {
    let field = match string(spec, "type") {
        "External" => "external",
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let (target, current) = (at(at(spec, field), "target"), at(at(status, field), "current"));
    let amount = |of: &Value, name: &str| quantity(at(of, name)).map(|amount| amount.to_string());
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
    let by_average = is_set(target, "averageValue");
    let name = string(at(spec, field), "name");
    match field {
        "resource" | "containerResource" if by_average => {
            let now = or_unknown(amount(current, "averageValue"));
            format!("{name}: {now}/{}", amount(target, "averageValue").unwrap_or_default())
        }
        "resource" | "containerResource" => {
            let percent = |of| integer(of, "averageUtilization").map(|percent| format!("{percent}%"));
            let wanted = percent(target).unwrap_or_else(|| "<auto>".to_owned());
            format!("{name}: {}/{wanted}", or_unknown(percent(current)))
        }
        "pods" => {
            let now = or_unknown(amount(current, "averageValue"));
            format!("{now}/{}", amount(target, "averageValue").unwrap_or_default())
        }
        _ if by_average => {
            let now = or_unknown(amount(current, "averageValue"));
            format!("{now}/{} (avg)", amount(target, "averageValue").unwrap_or_default())
        }
        _ => {
            let now = or_unknown(amount(current, "value"));
            format!("{now}/{}", amount(target, "value").unwrap_or_default())
        }
    }
}
