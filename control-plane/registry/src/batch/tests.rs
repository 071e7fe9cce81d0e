use serde_json::{Value, json};
use time::OffsetDateTime;

use super::cron_job::CronJob;
use super::indexes;
use super::job::Job;
use crate::strategy::{Context, Strategy, UserInfo};
use crate::value::{merge_patch, set};

const CONTEXT: fn() -> Context = || Context { user: UserInfo::default(), now: OffsetDateTime::UNIX_EPOCH };

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]}})
}

fn job(change: &Value) -> Value {
    let mut job = json!({"metadata": {"name": "j", "namespace": "n", "uid": "u"}, "spec": {"template": template()}});
    merge_patch(&mut job, change);
    Job.default(&mut job);
    Job.prepare_for_create(&CONTEXT(), &mut job);
    job
}

fn texts(errors: Vec<xebec_machinery::field::Error>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check(spec: Value, expected: &[&str]) {
    assert_eq!(texts(Job.validate(&job(&json!({"spec": spec})))), expected);
}

#[track_caller]
fn check_update(old: &Value, change: Value, expected: &[&str]) {
    let mut new = old.clone();
    merge_patch(&mut new, &change);
    assert_eq!(texts(Job.validate_update(&new, old)), expected);
}

#[test]
fn the_least_job_runs_one_pod_once() {
    let job = job(&json!({}));
    let spec = &job["spec"];
    for (field, value) in [
        ("completions", json!(1)),
        ("parallelism", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("manualSelector", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
        ("selector", json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})),
    ] {
        assert_eq!(spec[field], value, "{field}");
    }
    let labels = json!({
        "app": "a", "batch.kubernetes.io/controller-uid": "u", "controller-uid": "u",
        "batch.kubernetes.io/job-name": "j", "job-name": "j",
    });
    assert_eq!(spec["template"]["metadata"]["labels"], labels);
    check(json!({}), &[]);
}

#[test]
fn a_job_that_says_how_many_at_a_time_runs_until_one_succeeds() {
    assert_eq!(job(&json!({"spec": {"parallelism": 3}}))["spec"].get("completions"), None);
    let per_index = job(&json!({"spec": {"completionMode": "Indexed", "completions": 2, "backoffLimitPerIndex": 1}}));
    assert_eq!(per_index["spec"]["backoffLimit"], i32::MAX);
    let policy = json!({"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]});
    let with_policy = job(&json!({"spec": {"podFailurePolicy": policy}}));
    assert_eq!(with_policy["spec"]["podReplacementPolicy"], "Failed");
    assert_eq!(with_policy["spec"]["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["status"], "True");
}

#[test]
fn a_selector_is_generated_or_given() {
    check(
        json!({"selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "other"}}}),
        &[
            "spec.selector: Invalid value: {\"matchLabels\":{\"batch.kubernetes.io/controller-uid\":\"other\"}}: `selector` not auto-generated",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"a\",\"batch.kubernetes.io/controller-uid\":\"u\",\"batch.kubernetes.io/job-name\":\"j\",\"controller-uid\":\"u\",\"job-name\":\"j\"}: `selector` does not match template `labels`",
        ],
    );
    check(json!({"manualSelector": true, "selector": {"matchLabels": {"app": "a"}}}), &[]);
    check(
        json!({"manualSelector": true}),
        &[
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ],
    );
}

#[test]
fn pods_of_a_job_end() {
    check(
        json!({"template": {"spec": {"restartPolicy": "Always"}}}),
        &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
    );
    let rule = json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}});
    check(
        json!({"template": {"spec": {"restartPolicy": "OnFailure"}}, "podFailurePolicy": {"rules": [rule]}}),
        &[
            "spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy is specified",
        ],
    );
}

#[test]
fn counts_and_modes_fit_together() {
    check(json!({"parallelism": -1}), &["spec.parallelism: Invalid value: -1: must be greater than or equal to 0"]);
    check(
        json!({"completionMode": "Indexed", "parallelism": 1}),
        &["spec.completions: Required value: when completion mode is Indexed"],
    );
    check(
        json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 1}),
        &[
            "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
            "spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode",
        ],
    );
    check(
        json!({"completionMode": "Indexed", "completions": 2, "maxFailedIndexes": 3}),
        &[
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
            "spec.maxFailedIndexes: Invalid value: 3: must be less than or equal to completions",
        ],
    );
    check(
        json!({"completionMode": "Some"}),
        &["spec.completionMode: Unsupported value: \"Some\": supported values: \"NonIndexed\", \"Indexed\""],
    );
    check(
        json!({"managedBy": "me"}),
        &["spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")"],
    );
}

#[test]
fn a_failure_policy_is_made_of_rules() {
    let policy = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let path = "spec.podFailurePolicy.rules[0]";
    check(
        policy(json!({"action": "Retry"})),
        &[
            &format!(
                "{path}.action: Unsupported value: \"Retry\": supported values: \"Count\", \"FailIndex\", \"FailJob\", \"Ignore\""
            ),
            &format!("{path}: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"),
        ],
    );
    check(
        policy(
            json!({"action": "FailIndex", "onExitCodes": {"operator": "In", "containerName": "x", "values": [2, 1, 1, 0]}}),
        ),
        &[
            &format!("{path}.action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set"),
            &format!(
                "{path}.onExitCodes.containerName: Invalid value: \"x\": must be one of the container or initContainer names in the pod template"
            ),
            &format!("{path}.onExitCodes.values[2]: Duplicate value: 1"),
            &format!("{path}.onExitCodes.values[3]: Invalid value: 0: must not be 0 for the In operator"),
            &format!("{path}.onExitCodes.values: Invalid value: [2,1,1,0]: must be ordered"),
        ],
    );
    check(
        json!({"podReplacementPolicy": "TerminatingOrFailed", "podFailurePolicy": {"rules": []}}),
        &["spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\""],
    );
}

#[test]
fn a_success_policy_needs_indexes() {
    let rules =
        |rules: Value| json!({"completionMode": "Indexed", "completions": 5, "successPolicy": {"rules": rules}});
    let path = "spec.successPolicy.rules[0]";
    check(rules(json!([{"succeededCount": 2, "succeededIndexes": "0,2-3"}])), &[]);
    check(
        rules(json!([])),
        &[
            "spec.successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is specified",
        ],
    );
    check(
        rules(json!([{}])),
        &[&format!("{path}: Required value: at least one of succeededCount or succeededIndexes must be specified")],
    );
    check(
        rules(json!([{"succeededCount": 3, "succeededIndexes": "1,4"}])),
        &[&format!(
            "{path}.succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)"
        )],
    );
    check(
        rules(json!([{"succeededIndexes": "1-7"}])),
        &[&format!(
            "{path}.succeededIndexes: Invalid value: \"1-7\": error parsing succeededIndexes: too large index: \"7\""
        )],
    );
    check(
        json!({"successPolicy": {"rules": []}}),
        &["spec.successPolicy: Invalid value: {\"rules\":[]}: requires indexed completion mode"],
    );
}

#[test]
fn most_of_a_job_stays_as_it_was() {
    let old = job(&json!({}));
    check_update(&old, json!({"spec": {"suspend": true, "parallelism": 2, "backoffLimit": 1}}), &[]);
    check_update(
        &old,
        json!({"spec": {"completions": 2}}),
        &["spec.completions: Invalid value: 2: field is immutable"],
    );
    check_update(
        &old,
        json!({"spec": {"completionMode": "Indexed"}}),
        &["spec.completionMode: Invalid value: \"Indexed\": field is immutable"],
    );
    let errors = {
        let mut new = old.clone();
        set(&mut new, "spec.template.spec.nodeSelector", json!({"a": "b"}));
        texts(Job.validate_update(&new, &old))
    };
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("spec.template: Invalid value: ") && errors[0].ends_with(": field is immutable"));
}

#[test]
fn where_pods_go_may_change_before_the_first_starts() {
    let node = json!({"spec": {"template": {"metadata": {"annotations": {"a": "b"}}, "spec": {
        "nodeSelector": {"a": "b"}, "tolerations": [{"key": "k", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}},
    }}}});
    let suspended = job(&json!({"spec": {"suspend": true}}));
    check_update(&suspended, node.clone(), &[]);
    let mut started = suspended;
    started["status"] = json!({"startTime": "2026-01-02T03:04:05Z"});
    let mut new = started.clone();
    merge_patch(&mut new, &node);
    assert_eq!(texts(Job.validate_update(&new, &started)).len(), 1);
}

#[test]
fn an_indexed_job_grows_with_its_parallelism() {
    let old = job(&json!({"spec": {"completionMode": "Indexed", "completions": 2, "parallelism": 2}}));
    check_update(&old, json!({"spec": {"completions": 3, "parallelism": 3}}), &[]);
    check_update(
        &old,
        json!({"spec": {"completions": 3}}),
        &["spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism"],
    );
}

#[track_caller]
fn check_status(old: Value, new: Value, expected: &[&str]) {
    let with = |status: Value| {
        let mut job = job(&json!({}));
        job["status"] = status;
        job
    };
    assert_eq!(texts(Job.validate_status_update(&with(new), &with(old))), expected);
}

#[test]
fn a_status_does_not_go_back() {
    let (start, end) = ("2026-01-02T03:04:05Z", "2026-01-02T03:04:06Z");
    let is = |kind: &str| json!({"type": kind, "status": "True"});
    let complete = json!({"startTime": start, "completionTime": end, "succeeded": 1, "conditions": [is("SuccessCriteriaMet"), is("Complete")]});
    check_status(json!({"startTime": start}), complete.clone(), &[]);
    check_status(
        json!({"startTime": start}),
        json!({"startTime": start, "conditions": [is("Complete")]}),
        &[
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            "status.completionTime: Required value: completionTime is required for Complete jobs",
        ],
    );
    check_status(
        complete.clone(),
        json!({"startTime": start, "succeeded": 0}),
        &[
            "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter",
            "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
            "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
        ],
    );
    check_status(
        json!({"startTime": start}),
        json!({"startTime": end, "ready": 1}),
        &[
            "status.startTime: Required value: startTime cannot be removed for unsuspended job",
            "status.ready: Invalid value: 1: cannot set more ready pods than active",
        ],
    );
    check_status(
        json!({"startTime": start}),
        json!({"startTime": start, "active": 1, "conditions": [is("FailureTarget"), is("Failed")]}),
        &["status.active: Invalid value: 1: active>0 is invalid for finished job"],
    );
}

#[test]
fn a_job_is_a_row() {
    let mut object = job(&json!({}));
    object["status"] = json!({"succeeded": 1, "startTime": "1970-01-01T00:00:00Z", "completionTime": "1970-01-01T00:00:05Z",
        "conditions": [{"type": "Complete", "status": "True"}]});
    let cells = Job.row(&object, OffsetDateTime::UNIX_EPOCH);
    assert_eq!(cells[..4], [json!("j"), json!("Complete"), json!("1/1"), json!("5s")]);
    assert_eq!(Job.selectable_fields(&object)[2], ("status.successful".to_owned(), "1".to_owned()));
    let waiting = Job.row(&job(&json!({"spec": {"parallelism": 3}})), OffsetDateTime::UNIX_EPOCH);
    assert_eq!(waiting[1..4], [json!("Running"), json!("0/1 of 3"), json!("")]);
}

#[track_caller]
fn check_indexes(text: &str, expected: Result<i64, &str>) {
    assert_eq!(indexes::count(text, 10), expected.map_err(str::to_owned), "{text:?}");
}

#[test]
fn indexes_rise_and_end() {
    check_indexes("", Ok(0));
    check_indexes("1,3-5,7", Ok(5));
    check_indexes("3,2", Err("non-increasing order, previous: 3, current: 2"));
    check_indexes("3-3", Err("non-increasing order, previous: 3, current: 3"));
    check_indexes("a", Err("cannot convert string to integer for index: \"a\""));
    check_indexes("8-10", Err("too large index: \"10\""));
    assert_eq!(indexes::overlap("1-4,8", "0,3-5", 10), Some(3));
    assert_eq!(indexes::overlap("1-2", "3", 10), None);
}

fn cron_job(change: &Value) -> Value {
    let mut job = json!({
        "metadata": {"name": "c", "namespace": "n"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template()}}},
    });
    merge_patch(&mut job, change);
    CronJob.default(&mut job);
    job
}

#[track_caller]
fn check_cron(change: Value, expected: &[&str]) {
    assert_eq!(texts(CronJob.validate(&cron_job(&change))), expected);
}

#[test]
fn the_least_cron_job_gets_every_default() {
    let job = cron_job(&json!({}));
    let spec = &job["spec"];
    assert_eq!((&spec["concurrencyPolicy"], &spec["suspend"]), (&json!("Allow"), &json!(false)));
    assert_eq!((&spec["successfulJobsHistoryLimit"], &spec["failedJobsHistoryLimit"]), (&json!(3), &json!(1)));
    // The template becomes a job later, and gets a job's defaults then.
    assert_eq!(spec["jobTemplate"]["spec"].get("backoffLimit"), None);
    assert_eq!(spec["jobTemplate"]["spec"]["template"]["spec"]["dnsPolicy"], "ClusterFirst");
    check_cron(json!({}), &[]);
}

#[test]
fn a_cron_job_is_held_to_its_rules() {
    check_cron(
        json!({"metadata": {"name": "c".repeat(53)}}),
        &[&format!("metadata.name: Invalid value: \"{}\": must be no more than 52 characters", "c".repeat(53))],
    );
    check_cron(json!({"spec": {"schedule": ""}}), &["spec.schedule: Required value"]);
    check_cron(
        json!({"spec": {"schedule": "60 * * * *"}}),
        &["spec.schedule: Invalid value: \"60 * * * *\": end of range (60) above maximum (59): 60"],
    );
    check_cron(
        json!({"spec": {"schedule": "TZ=UTC * * * * *"}}),
        &[
            "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        ],
    );
    check_cron(json!({"spec": {"timeZone": "UTC"}}), &[]);
    for zone in ["Amerika/New_York", "../etc/passwd", "a//b"] {
        let expected = format!("spec.timeZone: Invalid value: {zone:?}: unknown time zone {zone}");
        check_cron(json!({"spec": {"timeZone": zone}}), &[&expected]);
    }
    check_cron(
        json!({"spec": {"concurrencyPolicy": "Maybe", "startingDeadlineSeconds": -1}}),
        &[
            "spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
            "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
        ],
    );
    check_cron(
        json!({"spec": {"jobTemplate": {"spec": {"selector": {"matchLabels": {"a": "b"}}, "manualSelector": true}}}}),
        &[
            "spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be auto-generated",
            "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
        ],
    );
}
