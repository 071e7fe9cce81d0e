use super::*;
use crate::job::backoff::Record;
use crate::job::testing::{NOW, at, job, pods};
use crate::job::view::Observed;
use serde_json::{Value, json};
use std::collections::HashSet;
use xebec_types::time as clock;

/// `+3`: three pods to make, `+#1` one for an index, `-a` deleted, `=Reason` finished, `?10` again in
/// ten seconds.
fn told(step: &Step) -> String {
    let mut words = Vec::new();
    let anonymous = step.create.iter().filter(|c| c.index.is_none()).count();
    if anonymous > 0 {
        words.push(format!("+{anonymous}"));
    }
    words.extend(step.create.iter().filter_map(|c| c.index).map(|index| format!("+#{index}")));
    words.extend(step.delete.iter().map(|pod| format!("-{}", object::name(&pod.metadata))));
    words.extend(step.finish.iter().map(|finish| format!("={}", finish.reason)));
    words.extend(step.recheck.iter().map(|wait| format!("?{}", wait.as_secs())));
    words.join(" ")
}

#[track_caller]
fn check_with(spec: Value, status: Value, all: &str, expected: &str) {
    let (job, pods, released) = (job(&spec, &status), pods(all), HashSet::new());
    let observed = Observed { job: &job, pods: &pods, released: &released, record: Record::default(), now: at(NOW) };
    let view = View::new(&observed).expect("a spec");
    assert_eq!(told(&step(&view, true)), expected, "{spec} {status} with {all:?}");
}

#[track_caller]
fn check(spec: Value, pods: &str, expected: &str) {
    check_with(spec, json!({}), pods, expected);
}

fn of(completions: i32, parallelism: i32) -> Value {
    json!({"completions": completions, "parallelism": parallelism})
}

fn indexed(completions: i32, parallelism: i32, more: Value) -> Value {
    let mut spec = of(completions, parallelism);
    spec["completionMode"] = json!("Indexed");
    for (key, value) in more.as_object().expect("fields") {
        spec[key] = value.clone();
    }
    spec
}

#[test]
fn as_many_pods_run_as_are_wanted_and_still_needed() {
    check(of(5, 2), "", "+2");
    check(of(5, 2), "a:running b:done", "+1");
    check(of(2, 2), "a:running b:done", "");
    check(of(2, 3), "a:running b:running c:running", "-a");
    check(of(5, 1), "a:running b:pending", "-b");
    check(of(5, 0), "a:running", "-a");
    check_with(of(5, 3), json!({"succeeded": 4}), "", "+1");
    check_with(of(2, 2), json!({"uncountedTerminatedPods": {"succeeded": ["a"]}}), "a:done", "+1");
    check_with(of(2, 2), json!({"uncountedTerminatedPods": {"succeeded": ["gone"]}}), "", "+1");
}

#[test]
fn a_job_completes() {
    check(of(2, 2), "a:done b:done", "=CompletionsReached");
    check_with(of(2, 2), json!({"succeeded": 2}), "", "=CompletionsReached");
    check_with(of(0, 2), json!({}), "", "=CompletionsReached");
    check(of(1, 1), "a:done b:running", "-b");
    // A queue of work: one success is enough, and the others end by themselves.
    check(json!({"parallelism": 2}), "", "+2");
    check(json!({"parallelism": 2}), "a:done b:running", "");
    check(json!({"parallelism": 2}), "a:done", "=CompletionsReached");
}

#[test]
fn failures_are_replaced_after_a_back_off_and_not_for_ever() {
    check(of(1, 1), "a:failed@10", "+1");
    check(of(1, 1), "a:failed@4", "?6");
    check(of(1, 1), "a:failed@30 b:failed@4", "?16");
    let once = json!({"completions": 1, "parallelism": 1, "backoffLimit": 1});
    check(once.clone(), "a:failed@99", "+1");
    check(once.clone(), "a:failed@99 b:failed@99", "=BackoffLimitExceeded");
    check_with(once.clone(), json!({"failed": 2}), "c:running", "-c =BackoffLimitExceeded");
    // A pod that is deleted has failed; with the other policy only once it ended.
    check(of(1, 1), "a:running-", "?10");
    check(json!({"completions": 1, "parallelism": 1, "podReplacementPolicy": "Failed"}), "a:running-", "");
    let in_place = json!({"completions": 1, "parallelism": 1, "backoffLimit": 2, "restartPolicy": "OnFailure"});
    check(in_place.clone(), "a:running*1", "");
    check(in_place, "a:running*2", "-a =BackoffLimitExceeded");
}

#[test]
fn a_job_has_a_deadline() {
    let spec = json!({"completions": 1, "parallelism": 1, "activeDeadlineSeconds": 30});
    let started = |ago: i64| json!({"startTime": clock::time(at(NOW - ago))});
    check_with(spec.clone(), started(10), "a:running", "?20");
    check_with(spec.clone(), started(30), "a:running", "-a =DeadlineExceeded");
    let suspended = json!({"completions": 1, "parallelism": 1, "activeDeadlineSeconds": 30, "suspend": true});
    check_with(suspended, started(99), "", "");
}

#[test]
fn a_suspended_job_has_no_pods() {
    check(json!({"completions": 3, "parallelism": 2, "suspend": true}), "a:running b:pending c:done", "-a -b");
    check(json!({"completions": 3, "parallelism": 2, "suspend": true}), "", "");
}

#[test]
fn every_index_gets_its_pod() {
    check(indexed(3, 2, json!({})), "", "+#0 +#1");
    check(indexed(3, 3, json!({})), "a#1:running", "+#0 +#2");
    check(indexed(3, 3, json!({})), "a#1:running b#1:pending", "-b");
    check(indexed(3, 3, json!({})), "a#7:running b:running", "-b -a");
    check_with(indexed(3, 3, json!({})), json!({"completedIndexes": "0,2"}), "", "+#1");
    check_with(indexed(3, 3, json!({})), json!({"completedIndexes": "0,2"}), "a#1:done", "=CompletionsReached");
}

#[test]
fn indexes_fail_by_themselves() {
    let limited = || indexed(3, 3, json!({"backoffLimitPerIndex": 1}));
    check(limited(), "a#0:failed@99 b#1:running c#2:running", "+#0");
    check(limited(), "a#0:failed@4 b#1:running c#2:running", "?6");
    check(limited(), "a#0:failed@99~1 b#1:running c#2:running", "");
    check(limited(), "a#0:failed@99~1 b#1:done c#2:done", "=FailedIndexes");
    let none = || indexed(3, 3, json!({"backoffLimitPerIndex": 0, "maxFailedIndexes": 1}));
    check(none(), "a#0:failed@99 b#1:running c#2:running", "");
    check(none(), "a#0:failed@99 b#1:failed@99 c#2:running", "-c =MaxFailedIndexesExceeded");
    let rule = json!({"rules": [{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}]});
    let policy = indexed(2, 2, json!({"backoffLimitPerIndex": 5, "podFailurePolicy": rule}));
    check(policy, "a#0:exit42@99 b#1:running", "");
}

#[test]
fn policies_decide_early() {
    let rule = |action: &str| {
        json!({"completions": 1, "parallelism": 1, "backoffLimit": 0, "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": [42]}}]}})
    };
    check(rule("FailJob"), "a:exit42@99", "=PodFailurePolicy");
    check(rule("Ignore"), "a:exit42@99", "+1");
    check(rule("Ignore"), "a:exit1@99", "=BackoffLimitExceeded");
    let success = |rules: Value| indexed(3, 3, json!({"successPolicy": {"rules": rules}}));
    check(success(json!([{"succeededIndexes": "0"}])), "a#0:done b#1:running", "-b =SuccessPolicy");
    check(success(json!([{"succeededCount": 2}])), "a#0:done b#1:running", "+#2");
}

#[test]
fn what_was_announced_is_done() {
    let told = |kind: &str| json!({"conditions": [{"type": kind, "status": "True", "reason": "Why", "message": "m"}]});
    check_with(of(3, 3), told("FailureTarget"), "a:running", "-a =Why");
    check_with(of(3, 3), told("SuccessCriteriaMet"), "a:running", "-a =Why");
}

#[test]
fn nothing_is_made_on_top_of_writes_that_were_not_seen() {
    let (job, released) = (job(&of(2, 2), &json!({})), HashSet::new());
    let pods = pods("a:done b:done");
    let observed = Observed { job: &job, pods: &pods, released: &released, record: Record::default(), now: at(NOW) };
    let view = View::new(&observed).expect("a spec");
    assert_eq!(told(&step(&view, false)), "");
}
