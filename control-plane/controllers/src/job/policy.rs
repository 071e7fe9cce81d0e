//! `podFailurePolicy` and `successPolicy`.

use crate::job::indexes::Indexes;
use xebec_types::batch::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicy,
};
use xebec_types::core::Pod;
use xebec_types::{condition, object};

/// What the failure of a pod means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// It counts towards the back-off limits.
    Counts,
    Ignored,
    FailsIndex,
    FailsJob {
        message: String,
    },
}

/// The first rule that matches decides: upstream's `matchPodFailurePolicy`.
pub(super) fn failure(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Failure {
    let rules = policy.map(|p| p.rules.as_slice()).unwrap_or_default();
    for (at, rule) in rules.iter().enumerate() {
        let Some(why) = matching(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Failure::Ignored,
            "FailIndex" => Failure::FailsIndex,
            "FailJob" => Failure::FailsJob { message: format!("{why} matching FailJob rule at index {at}") },
            "Count" => Failure::Counts,
            _ => continue, // An action of a later version.
        };
    }
    Failure::Counts
}

fn matching(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let name = format!("{}/{}", object::namespace(&pod.metadata), object::name(&pod.metadata));
    if let Some(codes) = &rule.on_exit_codes {
        let (container, code) = exit(codes, pod)?;
        return Some(format!("Container {container} for pod {name} failed with exit code {code}"));
    }
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let is_met = |c: &&xebec_types::core::PodCondition| {
        let wanted = |status: &Option<String>| status.as_deref().unwrap_or(condition::TRUE) == c.status;
        patterns.iter().any(|p| p.type_ == c.type_ && wanted(&p.status))
    };
    let met = conditions.into_iter().flatten().find(is_met)?;
    Some(format!("Pod {name} has condition {}", met.type_))
}

/// Success is never what a rule is about.
fn exit<'p>(rule: &PodFailurePolicyOnExitCodesRequirement, pod: &'p Pod) -> Option<(&'p str, i32)> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let ended = containers.chain(status.init_container_statuses.iter().flatten()).filter_map(|c| {
        let ended = c.state.as_ref()?.terminated.as_ref()?;
        Some((c.name.as_str(), ended.exit_code))
    });
    let mut failed =
        ended.filter(|(name, code)| *code != 0 && rule.container_name.as_deref().is_none_or(|n| n == *name));
    failed.find(|(_, code)| rule.values.contains(code) == (rule.operator == "In"))
}

/// The message of the first rule that the succeeded indexes meet.
pub(super) fn success(policy: Option<&SuccessPolicy>, completions: i32, succeeded: &Indexes) -> Option<String> {
    let rules = policy.map(|p| p.rules.as_slice()).unwrap_or_default();
    let is_met = |rule: &xebec_types::batch::SuccessPolicyRule| {
        let wanted = rule.succeeded_indexes.as_deref().map(|text| Indexes::parse(text, completions));
        match (wanted, rule.succeeded_count) {
            (Some(wanted), Some(count)) => wanted.common(succeeded) >= count,
            (Some(wanted), None) => wanted.common(succeeded) >= wanted.total(),
            (None, Some(count)) => succeeded.total() >= count,
            (None, None) => false,
        }
    };
    let at = rules.iter().position(is_met)?;
    Some(format!("Matched rules at index {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(code: i32, conditions: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns"},
            "status": {"conditions": conditions, "containerStatuses": [{"name": "main", "image": "", "imageID": "",
                "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": code}}}]},
        }))
        .expect("a Pod")
    }

    #[track_caller]
    fn check(rules: Value, pod: &Pod, expected: Failure) {
        let policy: PodFailurePolicy = serde_json::from_value(json!({"rules": rules})).expect("a policy");
        assert_eq!(failure(Some(&policy), pod), expected, "{rules}");
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let failed = pod(42, json!([]));
        let on = |action: &str, operator: &str, values: Value| json!({"action": action, "onExitCodes": {"operator": operator, "values": values}});
        let fails = Failure::FailsJob {
            message: "Container main for pod ns/p failed with exit code 42 matching FailJob rule at index 0".into(),
        };
        check(json!([on("FailJob", "In", json!([42]))]), &failed, fails.clone());
        check(json!([on("FailJob", "NotIn", json!([1]))]), &failed, fails);
        check(json!([on("FailJob", "In", json!([1]))]), &failed, Failure::Counts);
        check(json!([on("Ignore", "In", json!([42])), on("FailJob", "In", json!([42]))]), &failed, Failure::Ignored);
        check(json!([on("FailIndex", "In", json!([42]))]), &failed, Failure::FailsIndex);
        check(json!([on("Ignore", "NotIn", json!([1]))]), &pod(0, json!([])), Failure::Counts);
        let mut other = on("Ignore", "In", json!([42]));
        other["onExitCodes"]["containerName"] = json!("side");
        check(json!([other]), &failed, Failure::Counts);
    }

    #[test]
    fn conditions_match_by_type_and_status() {
        let disrupted = pod(1, json!([{"type": "DisruptionTarget", "status": "True"}]));
        let on = |status: Value| json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": status}]}]);
        check(on(json!("True")), &disrupted, Failure::Ignored);
        check(on(Value::Null), &disrupted, Failure::Ignored);
        check(on(json!("False")), &disrupted, Failure::Counts);
        let fails = json!([{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]);
        let message = "Pod ns/p has condition DisruptionTarget matching FailJob rule at index 0".into();
        check(fails, &disrupted, Failure::FailsJob { message });
    }

    #[track_caller]
    fn check_success(rules: Value, succeeded: &str, expected: Option<&str>) {
        let policy: SuccessPolicy = serde_json::from_value(json!({"rules": rules})).expect("a policy");
        let found = success(Some(&policy), 10, &Indexes::parse(succeeded, 10));
        assert_eq!(found.as_deref(), expected, "{rules} with {succeeded}");
    }

    #[test]
    fn a_success_policy_is_met_by_indexes_or_counts() {
        check_success(json!([{"succeededCount": 2}]), "0,5", Some("Matched rules at index 0"));
        check_success(json!([{"succeededCount": 3}]), "0,5", None);
        check_success(json!([{"succeededIndexes": "0,2-3"}]), "0,2,3,9", Some("Matched rules at index 0"));
        check_success(json!([{"succeededIndexes": "0,2-3"}]), "0,2", None);
        check_success(
            json!([{"succeededIndexes": "0,2-3", "succeededCount": 2}]),
            "0,2",
            Some("Matched rules at index 0"),
        );
        check_success(json!([{"succeededCount": 5}, {"succeededIndexes": "1"}]), "1", Some("Matched rules at index 1"));
    }
}
