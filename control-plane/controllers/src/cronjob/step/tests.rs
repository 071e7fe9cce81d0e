use super::*;
use serde_json::{Value, json};

/// 2026-01-01T12:00:30Z.
const NOW: i64 = 1_767_268_830;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

/// Every ten minutes; created and last scheduled so many seconds ago.
fn cron(spec: Value, last: Option<i64>, active: &[&str]) -> CronJob {
    let mut object = json!({
        "metadata": {"name": "c", "namespace": "ns", "uid": "cron", "creationTimestamp": time::time(at(NOW - 7200))},
        "spec": {"schedule": "*/10 * * * *", "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}},
        "status": {"active": active.iter().map(|name| json!({"name": name, "uid": name})).collect::<Vec<_>>(),
            "lastScheduleTime": last.map(|ago| time::time(at(NOW - ago)))},
    });
    for (key, value) in spec.as_object().expect("fields") {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).expect("a CronJob")
}

/// `name:state[@seconds ago]`; states: running, done, failed.
fn job(text: &str) -> Arc<Job> {
    let (name, rest) = text.split_once(':').expect("state");
    let (state, ago) = rest.split_once('@').unwrap_or((rest, "0"));
    let ended = time::time(at(NOW - ago.parse::<i64>().expect("seconds")));
    let kind = match state {
        "done" => Some("Complete"),
        "failed" => Some("Failed"),
        _ => None,
    };
    let conditions = kind.map(|kind| json!([{"type": kind, "status": "True", "lastTransitionTime": ended}]));
    let completed = (state == "done").then_some(&ended);
    let job = json!({"metadata": {"name": name, "uid": name}, "spec": {"template": {}},
        "status": {"conditions": conditions, "startTime": ended, "completionTime": completed}});
    Arc::new(serde_json::from_value(job).expect("a Job"))
}

/// `+name` started, `-name` deleted as history, `~name` replaced, `!Reason` told.
fn told(plan: &Plan) -> String {
    let name = |job: &Job| object::name(&job.metadata).to_string();
    let started = plan.start.iter().map(|start| format!("+{}", name(&start.job)));
    let surplus = plan.surplus.iter().map(|job| format!("-{}", name(job)));
    let replaced = plan.replaced.iter().map(|job| format!("~{}", name(job)));
    let events = plan.events.iter().map(|(_, reason, _)| format!("!{reason}"));
    started.chain(surplus).chain(replaced).chain(events).collect::<Vec<_>>().join(" ")
}

fn plan(cron: &CronJob, jobs: &str) -> Plan {
    let jobs: Vec<_> = jobs.split_whitespace().map(job).collect();
    step(cron, &jobs, at(NOW))
}

#[track_caller]
fn check(spec: Value, last: Option<i64>, jobs: &str, expected: &str) {
    let active: Vec<_> =
        jobs.split_whitespace().filter(|j| j.ends_with("running")).filter_map(|j| j.split(':').next()).collect();
    let cron = cron(spec.clone(), last, &active);
    assert_eq!(told(&plan(&cron, jobs)), expected, "{spec} {last:?} {jobs:?}");
}

#[test]
fn a_job_starts_when_its_time_has_come() {
    check(json!({}), Some(630), "", "+c-29454480");
    check(json!({}), Some(30), "", "");
    check(json!({}), None, "", "+c-29454480");
    check(json!({"suspend": true}), None, "", "");
    check(json!({"schedule": "0 0 1 1 *"}), Some(60), "", "");
    check(json!({}), Some(630), "other:running", "+c-29454480");
}

#[test]
fn a_time_is_missed_after_its_deadline() {
    check(json!({"startingDeadlineSeconds": 60}), Some(630), "", "+c-29454480");
    check(json!({"startingDeadlineSeconds": 20}), Some(630), "", "");
    check(json!({"schedule": "* * * * *"}), Some(86_400), "", "+c-29454480 !TooManyMissedTimes");
    check(json!({"schedule": "* * * * *", "startingDeadlineSeconds": 90}), Some(86_400), "", "+c-29454480");
}

#[test]
fn concurrency_is_as_the_policy_says() {
    check(json!({"concurrencyPolicy": "Allow"}), Some(630), "old:running", "+c-29454480");
    check(json!({"concurrencyPolicy": "Forbid"}), Some(630), "old:running", "!JobAlreadyActive");
    check(json!({"concurrencyPolicy": "Forbid"}), Some(630), "old:done", "+c-29454480");
    check(json!({"concurrencyPolicy": "Replace"}), Some(630), "old:running", "+c-29454480 ~old");
}

#[test]
fn history_is_kept_up_to_its_limits() {
    let limits = json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0});
    check(limits.clone(), Some(30), "a:done@90 b:done@60 d:failed@50", "-a -d");
    check(limits, Some(30), "a:done@60", "");
    check(json!({"successfulJobsHistoryLimit": 0}), Some(30), "a:done@60 b:running", "-a");
}

#[test]
fn what_became_of_active_jobs_is_told() {
    let cron = cron(json!({}), Some(30), &["a", "b", "lost"]);
    let plan = plan(&cron, "a:done@9 b:running new:running");
    assert_eq!(told(&plan), "!SawCompletedJob !UnexpectedJob !MissingJob");
    let active = plan.status.active.expect("active");
    assert_eq!(active.iter().map(|a| a.name.as_deref().unwrap_or_default()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(plan.status.last_successful_time, Some(time::time(at(NOW - 9))));
}

#[test]
fn a_schedule_that_cannot_be_read_is_told() {
    check(json!({"schedule": "x"}), Some(630), "", "!UnparseableSchedule");
    check(json!({"timeZone": "Nowhere/City"}), Some(630), "", "!UnknownTimeZone");
}

#[test]
fn a_job_is_made_from_the_template() {
    let cron = cron(json!({"timeZone": "Asia/Kolkata"}), Some(630), &[]);
    let plan = plan(&cron, "");
    let job = plan.start.expect("due").job;
    let timestamp = object::annotation(&job.metadata, "batch.kubernetes.io/cronjob-scheduled-timestamp");
    assert_eq!(timestamp, Some("2026-01-01T17:30:00+05:30"));
    assert_eq!(object::label(&job.metadata, "a"), Some("b"));
    assert!(object::is_controlled_by(&job.metadata, "cron"));
    assert_eq!(plan.next.map(|next| next.as_secs()), Some(570));
}

#[test]
fn a_cron_job_that_is_being_deleted_starts_nothing() {
    let mut cron = cron(json!({}), None, &[]);
    cron.metadata.deletion_timestamp = Some(time::time(at(NOW)));
    assert_eq!(told(&plan(&cron, "")), "");
}
