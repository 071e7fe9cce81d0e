//! What a disruption budget says to an eviction.

use serde_json::{Value, json};
use xebec_machinery::selector::LabelSelector;
use xebec_machinery::status::{Cause, Details};
use xebec_machinery::{GroupResource, Status, object};
use xebec_registry::value::{at, integer, items, object_mut, set, string};

/// Evictions that the controller has not confirmed yet (`MaxDisruptedPodSize`).
const DISRUPTED_MAX: usize = 2000;
const VIOLATED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// A budget whose controller is behind is asked again then.
const SOON: u32 = 10;

pub struct Pod<'a> {
    pub name: &'a str,
    pub is_ready: bool,
}

#[derive(Debug)]
pub enum Verdict {
    /// The pod is not healthy: its end disrupts nothing.
    Free,
    /// The budget with one disruption less.
    Charged(Value),
}

/// Pods that no budget keeps: those that ended, never began, or are going already.
pub fn is_ignored(pod: &Value) -> bool {
    matches!(string(pod, "status.phase"), "Succeeded" | "Failed" | "Pending" | "")
        || object::deletion_timestamp(pod).is_some()
}

pub fn is_ready(pod: &Value) -> bool {
    items(pod, "status.conditions").iter().any(|c| string(c, "type") == "Ready" && string(c, "status") == "True")
}

/// Whether the budget is about the pod; one without selector is about none.
pub fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = at(budget, "spec.selector");
    !selector.is_null() && LabelSelector::from_object(selector).is_ok_and(|selector| selector.matches_object(pod))
}

/// # Errors
/// The refusal of a budget that has no disruption left.
pub fn decrement(budget: &Value, pod: &Pod<'_>, now: &str) -> Result<Verdict, Status> {
    let name = object::name(budget);
    let number = |field: &str| integer(budget, field).unwrap_or(0);
    let (healthy, desired) = (number("status.currentHealthy"), number("status.desiredHealthy"));
    let always = string(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow";
    if !pod.is_ready && (always || (healthy >= desired && desired > 0)) {
        return Ok(Verdict::Free);
    }
    if number("status.observedGeneration") < object::generation(budget) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(violated(why, Some(SOON)));
    }
    let forbidden =
        |why: &str| Err(Status::forbidden(&GroupResource::new("policy", "poddisruptionbudgets"), name, why));
    let allowed = number("status.disruptionsAllowed");
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if at(budget, "status.disruptedPods").as_object().is_some_and(|pods| pods.len() > DISRUPTED_MAX) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        let why = format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently");
        return Err(violated(why, None));
    }
    let mut charged = budget.clone();
    set(&mut charged, "status.disruptionsAllowed", allowed - 1);
    object_mut(&mut charged, "status.disruptedPods").insert(pod.name.to_owned(), now.into());
    if allowed == 1 {
        exhausted(&mut charged, now);
    }
    Ok(Verdict::Charged(charged))
}

fn violated(why: String, retry_after_seconds: Option<u32>) -> Status {
    let cause = Cause { reason: "DisruptionBudget".into(), message: why, ..Cause::default() };
    let details = Details { causes: vec![cause], retry_after_seconds, ..Details::default() };
    Status::too_many_requests(VIOLATED, 0).with_details(details)
}

fn exhausted(budget: &mut Value, now: &str) {
    let condition = json!({
        "type": "DisruptionAllowed",
        "status": "False",
        "reason": "InsufficientPods",
        "message": "",
        "lastTransitionTime": now,
        "observedGeneration": integer(budget, "status.observedGeneration").unwrap_or(0),
    });
    let conditions = object_mut(budget, "status").entry("conditions").or_insert_with(|| json!([]));
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|c| c["type"] != condition["type"]);
        conditions.push(condition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(status: Value, policy: &str) -> Value {
        json!({
            "metadata": {"name": "b", "generation": 1},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "unhealthyPodEvictionPolicy": policy},
            "status": status,
        })
    }

    #[track_caller]
    fn check(budget: &Value, is_ready: bool, expected: Result<Option<i64>, &str>) {
        let verdict = decrement(budget, &Pod { name: "p", is_ready }, "2026-01-01T00:00:00Z");
        let outcome = verdict.map(|verdict| match verdict {
            Verdict::Free => None,
            Verdict::Charged(budget) => {
                assert_eq!(budget["status"]["disruptedPods"]["p"], "2026-01-01T00:00:00Z");
                integer(&budget, "status.disruptionsAllowed")
            }
        });
        let cause =
            |s: Status| s.details.and_then(|d| d.causes.first().map(|c| c.message.clone())).unwrap_or(s.message);
        assert_eq!(outcome.map_err(cause), expected.map_err(str::to_owned));
    }

    #[test]
    fn a_budget_is_charged_until_nothing_is_left() {
        let status = |allowed: i64| json!({"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 3, "desiredHealthy": 3});
        check(&budget(status(2), ""), true, Ok(Some(1)));
        check(&budget(status(0), ""), true, Err("The disruption budget b needs 3 healthy pods and has 3 currently"));
        check(&budget(json!({}), ""), true, Err("The disruption budget b is still being processed by the server."));
    }

    #[test]
    fn a_pod_that_is_not_ready_goes_when_the_others_are_healthy_or_the_policy_says_so() {
        let status = |healthy: i64| json!({"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": healthy, "desiredHealthy": 3});
        check(&budget(status(3), ""), false, Ok(None));
        let needs = "The disruption budget b needs 3 healthy pods and has 2 currently";
        check(&budget(status(2), "IfHealthyBudget"), false, Err(needs));
        check(&budget(status(2), "AlwaysAllow"), false, Ok(None));
        check(&budget(status(2), "AlwaysAllow"), true, Err(needs));
    }

    #[test]
    fn an_empty_selector_covers_all_and_none_covers_none() {
        let pod = json!({"metadata": {"labels": {"app": "web"}}});
        let covers = |selector: Value| covers(&json!({"spec": {"selector": selector}}), &pod);
        assert!(covers(json!({})));
        assert!(!covers(Value::Null));
        assert!(covers(json!({"matchLabels": {"app": "web"}})));
        assert!(!covers(json!({"matchLabels": {"app": "db"}})));
    }
}
