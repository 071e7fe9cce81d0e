//! The quality-of-service class of a pod: `component-helpers/resource` and `pkg/apis/core/helper/qos`.

use serde_json::Value;
use xebec_machinery::Quantity;

use crate::value::{at, items};

const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// Guaranteed: every container limits cpu and memory and requests as much. `BestEffort`: none asks for either. Burstable otherwise.
pub fn class(pod: &Value) -> &'static str {
    if super::resources::pod_level(at(pod, "spec")) {
        return class_of(std::iter::once(at(pod, "spec.resources")));
    }
    let containers = items(pod, "spec.containers").iter().chain(items(pod, "spec.initContainers"));
    class_of(containers.map(|container| at(container, "resources")))
}

fn class_of<'a>(resources: impl Iterator<Item = &'a Value>) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    for resources in resources {
        for name in COMPUTE {
            let limit = positive(at(resources, "limits"), name);
            let request = positive(at(resources, "requests"), name);
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn positive(list: &Value, name: &str) -> Option<Quantity> {
    super::resources::quantity(list.get(name)?).filter(|quantity| !quantity.is_zero() && !quantity.is_negative())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(containers: Value, expected: &str) {
        assert_eq!(class(&json!({"spec": {"containers": containers}})), expected);
    }

    #[test]
    fn the_class_follows_requests_and_limits() {
        check(json!([{"name": "a"}]), "BestEffort");
        check(json!([{"resources": {"requests": {"cpu": "0"}}}]), "BestEffort");
        check(json!([{"resources": {"requests": {"cpu": "1"}}}]), "Burstable");
        check(json!([{"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]), "Guaranteed");
        check(
            json!([{"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}}]),
            "Guaranteed",
        );
        check(
            json!([{"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}}]),
            "Burstable",
        );
        check(json!([{"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}, {"name": "b"}]), "Burstable");
    }
}
