//! Claims of devices (`pkg/quota/v1/evaluator/core/resource_claims.go`).

use serde_json::Value;

use super::{Amounts, add};
use crate::Quantity;

/// Behind the name of a class, what a quota says of its devices.
pub(super) const DEVICES: &str = ".deviceclass.resource.k8s.io/devices";
/// Of what `allocationMode: All` may be (`resource.k8s.io`'s `AllocationResultsMaxSize`).
const ALL: i64 = 32;

/// The devices that a claim may get, by class; of alternatives the most that any takes of a class.
pub(super) fn usage(claim: &Value, usage: &mut Amounts) {
    let list = |of: &Value, path: &str| of.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
    for request in list(claim, "/spec/devices/requests") {
        let mut worst = Amounts::new();
        let alternatives = list(&request, "/firstAvailable");
        for asked in alternatives.iter().chain(request.get("exactly").filter(|_| alternatives.is_empty())) {
            let class = asked.get("deviceClassName").and_then(Value::as_str).unwrap_or_default();
            let amount = worst.entry(format!("{class}{DEVICES}")).or_default();
            *amount = (*amount).max(Quantity::from_value(count(asked)));
        }
        add(usage, &worst);
    }
}

/// The mode and the count have been defaulted.
fn count(asked: &Value) -> i64 {
    match asked.get("allocationMode").and_then(Value::as_str) {
        Some("ExactCount") => asked.get("count").and_then(Value::as_i64).unwrap_or_default(),
        Some("All") => ALL,
        _ => 0,
    }
}
