//! The downward API: fields of a pod and resources of a container as text.

use std::collections::BTreeMap;

use xebec_types::core::{Container, Pod};
use xebec_types::{Quantity, object, resource};

use crate::env::Facts;
use crate::pod;
use crate::qos::Amount;

/// `fieldPath` of an env variable or a downwardAPI file.
pub fn pod_field(pod: &Pod, path: &str, facts: &Facts) -> Result<String, String> {
    let meta = &pod.metadata;
    if let Some((map, key)) = subscript(path) {
        let values = match map {
            "metadata.labels" => pod::labels(pod),
            "metadata.annotations" => pod::annotations(pod),
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        return Ok(values.get(key).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => object::name(meta).to_owned(),
        "metadata.namespace" => object::namespace(meta).to_owned(),
        "metadata.uid" => object::uid(meta).to_owned(),
        "metadata.labels" => lines(&pod::labels(pod)),
        "metadata.annotations" => lines(&pod::annotations(pod)),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => pod::spec(pod).service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// `metadata.labels['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// `key="escaped value"` on lines ordered by key.
fn lines(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n")
}

/// `limits.cpu` and the like, divided and rounded up. A limit that is not set is the node's.
pub fn resource_field(
    container: &Container,
    name: &str,
    divisor: Option<&Quantity>,
    facts: &Facts,
) -> Result<String, String> {
    let amount = Amount::of(container);
    let (milli, per_milli) = match name {
        "limits.cpu" => (amount.cpu_limit.unwrap_or(facts.allocatable_milli_cpu), true),
        "requests.cpu" => (amount.cpu_request.unwrap_or(0), true),
        "limits.memory" => (amount.memory_limit.unwrap_or(facts.allocatable_memory_bytes), false),
        "requests.memory" => (amount.memory_request.unwrap_or(0), false),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => (0, false),
        _ => return Err(format!("unsupported container resource : {name}")),
    };
    let divisor = match (divisor, per_milli) {
        (Some(divisor), true) => resource::milli(divisor),
        (Some(divisor), false) => resource::value(divisor),
        (None, true) => Some(1000),
        (None, false) => Some(1),
    };
    let default = if per_milli { 1000 } else { 1 };
    let divisor = divisor.filter(|d| *d > 0).unwrap_or(default);
    // Rounded up; a limit may be near the largest number there is.
    let rounded = milli / divisor + i64::from(milli % divisor > 0);
    Ok(rounded.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(field: &str, limit: &str, divisor: &str, expected: &str) {
        let resources = json!({ "limits": { "cpu": limit, "memory": limit } });
        let container = serde_json::from_value(json!({ "name": "c", "resources": resources })).unwrap();
        let found = resource_field(&container, field, Some(&Quantity(divisor.to_owned())), &Facts::default());
        assert_eq!(found.as_deref(), Ok(expected), "{limit} by {divisor}");
    }

    #[test]
    fn amounts_are_divided_and_rounded_up() {
        check("limits.memory", "100Mi", "1Mi", "100");
        check("limits.memory", "1", "1Mi", "1");
        check("limits.memory", "0", "1Mi", "0");
        check("limits.memory", "9223372036854775807", "1Ei", "8");
        check("limits.memory", "9223372036854775807", "1", "9223372036854775807");
        check("limits.cpu", "1500m", "1", "2");
        check("limits.cpu", "1500m", "1m", "1500");
    }
}
