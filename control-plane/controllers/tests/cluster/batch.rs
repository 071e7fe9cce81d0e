//! Jobs from the API to their last condition.

use crate::harness::Cluster;
use crate::raw::{name, uid};
use crate::workload::{create, events, patch};
use serde_json::{Value, json};
use std::time::Duration;
use xebec_client::DeleteParams;
use xebec_clock::Clock;
use xebec_types::batch::{CronJob, Job, JobStatus};
use xebec_types::core::{Event, Pod};
use xebec_types::time::{self, Timestamp};
use xebec_types::{finalizer, object, pod};

fn job(spec: &Value, image: &str) -> Value {
    let mut spec = spec.clone();
    spec["template"] = json!({"spec": {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": image}]}});
    json!({"metadata": {"name": "j"}, "spec": spec})
}

/// The status once the Job has this condition.
async fn ended(cluster: &Cluster, kind: &str) -> JobStatus {
    let ask = || async {
        let status = cluster.api::<Job>("ns").get("j").await.ok()?.status?;
        let conditions = status.conditions.clone()?;
        conditions.iter().any(|c| c.type_ == kind && c.status == "True").then_some(status)
    };
    cluster.until(kind, ask).await
}

async fn pods(cluster: &Cluster) -> Vec<Pod> {
    cluster.api::<Pod>("ns").list(&Default::default()).await.expect("list").items
}

async fn active(cluster: &Cluster, count: usize) -> Vec<Pod> {
    let ask = || async {
        let pods = pods(cluster).await;
        (pods.iter().filter(|p| pod::is_active(p)).count() == count).then_some(pods)
    };
    cluster.until(&format!("{count} active pods"), ask).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_completes_counts_its_pods_and_is_cleaned_up() {
    let cluster = Cluster::start(2).await;
    cluster.namespace("ns").await;
    create::<Job>(&cluster, job(&json!({"completions": 20, "parallelism": 7}), "exit:0")).await;
    let status = ended(&cluster, "Complete").await;
    assert_eq!((status.succeeded, status.failed, status.active), (Some(20), None, None));
    assert!(status.completion_time.is_some() && status.start_time.is_some());
    let order: Vec<_> = status.conditions.iter().flatten().map(|c| c.type_.as_str()).collect();
    assert_eq!(order, ["SuccessCriteriaMet", "Complete"]);
    let all = pods(&cluster).await;
    assert_eq!(all.len(), 20);
    assert!(all.iter().all(|p| !object::has_finalizer(&p.metadata, finalizer::JOB_TRACKING)));
    events(&cluster, &["SuccessfulCreate", "Completed"]).await;

    patch::<Job>(&cluster, "j", json!({"spec": {"ttlSecondsAfterFinished": 0}})).await;
    let gone = || async { cluster.api::<Job>("ns").get_opt("j").await.ok()?.is_none().then_some(()) };
    cluster.until("deletion", gone).await;
    active(&cluster, 0).await;
    assert_eq!(pods(&cluster).await.len(), 0, "its pods went first");
}

/// What controllers write is dated by the server's clock, and what has its time waits for that clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_go_by_the_servers_clock() {
    const DAY: Duration = Duration::from_secs(86_400);
    let clock = Clock::default();
    let cluster = Cluster::by_clock(1, clock.clone()).await;
    cluster.namespace("ns").await;
    clock.advance(30 * DAY);
    let begin = Timestamp::from_second(time::at(clock.now()).as_second()).expect("whole seconds");
    let spec = json!({"completions": 1, "ttlSecondsAfterFinished": 3600});
    create::<Job>(&cluster, job(&spec, "exit:0")).await;
    let status = ended(&cluster, "Complete").await;
    let dates = [status.start_time, status.completion_time];
    let conditions = status.conditions.into_iter().flatten().map(|c| c.last_transition_time);
    for date in dates.into_iter().chain(conditions) {
        let date = date.expect("a date").0;
        assert!(date >= begin && date <= time::at(clock.now()), "{date} is not after {begin}");
    }
    events(&cluster, &["Completed"]).await;
    let told = cluster.api::<Event>("ns").list(&Default::default()).await.expect("list").items;
    let told = told.iter().find(|event| event.reason.as_deref() == Some("Completed")).expect("an event");
    assert!(told.last_timestamp.as_ref().is_some_and(|at| at.0 >= begin), "{told:?}");

    clock.advance(Duration::from_secs(7200));
    patch::<Job>(&cluster, "j", json!({"metadata": {"labels": {"look": "again"}}})).await;
    let gone = || async { cluster.api::<Job>("ns").get_opt("j").await.ok()?.is_none().then_some(()) };
    cluster.until("deletion of a Job whose time is over", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn indexes_succeed_and_fail_one_by_one() {
    let cluster = Cluster::start(2).await;
    cluster.namespace("ns").await;
    let spec = json!({"completionMode": "Indexed", "completions": 5, "parallelism": 3, "backoffLimitPerIndex": 0});
    create::<Job>(&cluster, job(&spec, "exit:index")).await;
    let status = ended(&cluster, "Failed").await;
    assert_eq!(status.completed_indexes.as_deref(), Some("0,2,4"));
    assert_eq!(status.failed_indexes.as_deref(), Some("1,3"));
    assert_eq!((status.succeeded, status.failed), (Some(3), Some(2)));
    events(&cluster, &["FailedIndexes"]).await;
    let pods = pods(&cluster).await;
    let first =
        pods.iter().find(|p| object::label(&p.metadata, "batch.kubernetes.io/job-completion-index") == Some("0"));
    let first = first.expect("a pod of index 0");
    assert!(object::name(&first.metadata).starts_with("j-0-"));
    let spec = first.spec.as_ref().expect("spec");
    assert_eq!(spec.hostname.as_deref(), Some("j-0"));
    let env = spec.containers[0].env.iter().flatten().find(|e| e.name == "JOB_COMPLETION_INDEX");
    assert!(env.is_some(), "a container learns its index");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_fails_a_job_at_once() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let rule = json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}});
    let spec = json!({"completions": 3, "parallelism": 1, "podFailurePolicy": {"rules": [rule]}});
    create::<Job>(&cluster, job(&spec, "exit:42")).await;
    let status = ended(&cluster, "Failed").await;
    let failed = status.conditions.iter().flatten().find(|c| c.type_ == "Failed").expect("condition");
    assert_eq!(failed.reason.as_deref(), Some("PodFailurePolicy"));
    let message = failed.message.as_deref().unwrap_or_default();
    assert!(message.ends_with("failed with exit code 42 matching FailJob rule at index 0"), "{message}");
    assert_eq!(status.failed, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_suspended_resumed_and_orphans_its_pods() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let spec = json!({"completions": 2, "parallelism": 2, "suspend": true});
    create::<Job>(&cluster, job(&spec, "forever")).await;
    ended(&cluster, "Suspended").await;
    assert_eq!(pods(&cluster).await.len(), 0);
    patch::<Job>(&cluster, "j", json!({"spec": {"suspend": false}})).await;
    active(&cluster, 2).await;
    patch::<Job>(&cluster, "j", json!({"spec": {"suspend": true}})).await;
    active(&cluster, 0).await;
    let status = ended(&cluster, "Suspended").await;
    assert_eq!(status.failed, None, "suspending fails no pod");
    patch::<Job>(&cluster, "j", json!({"spec": {"suspend": false}})).await;
    active(&cluster, 2).await;
    events(&cluster, &["Suspended", "Resumed"]).await;
    cluster.api::<Job>("ns").delete("j", &DeleteParams::orphan()).await.expect("delete");
    let free = || async {
        let pods = active(&cluster, 2).await;
        let bound = |p: &Pod| {
            object::has_finalizer(&p.metadata, finalizer::JOB_TRACKING) || object::controller_of(&p.metadata).is_some()
        };
        (!pods.iter().any(bound)).then_some(())
    };
    cluster.until("free pods", free).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_job_takes_its_running_pods_along() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    create::<Job>(&cluster, job(&json!({"completions": 3, "parallelism": 3}), "forever")).await;
    active(&cluster, 3).await;
    cluster.api::<Job>("ns").delete("j", &DeleteParams::background()).await.expect("delete");
    let gone = || async { pods(&cluster).await.is_empty().then_some(()) };
    cluster.until("no pods", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_job_starts_jobs_and_notes_their_success() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let spec = json!({"schedule": "@every 1s", "timeZone": "Etc/UTC",
        "jobTemplate": {"spec": job(&json!({}), "exit:0")["spec"]}});
    create::<CronJob>(&cluster, json!({"metadata": {"name": "tick"}, "spec": spec})).await;
    let succeeded = || async {
        let status = cluster.api::<CronJob>("ns").get("tick").await.ok()?.status?;
        (status.last_successful_time.is_some() && status.last_schedule_time.is_some()).then_some(())
    };
    cluster.until("a success", succeeded).await;
    let jobs = cluster.api::<Job>("ns").list(&Default::default()).await.expect("list").items;
    let first = jobs.first().expect("a job");
    let minute = object::name(&first.metadata).strip_prefix("tick-").and_then(|minute| minute.parse::<i64>().ok());
    assert!(minute.is_some(), "{}", object::name(&first.metadata));
    assert!(object::controller_of(&first.metadata).is_some_and(|owner| owner.kind == "CronJob"));
    events(&cluster, &["SuccessfulCreate", "SawCompletedJob"]).await;
    cluster.api::<CronJob>("ns").delete("tick", &DeleteParams::background()).await.expect("delete");
    let gone =
        || async { cluster.api::<Job>("ns").list(&Default::default()).await.ok()?.items.is_empty().then_some(()) };
    cluster.until("no jobs", gone).await;
}

/// When the time of a CronJob comes and its Job `old` still runs: which of its Jobs run then, `old` and those that are new?
async fn check_concurrency(policy: &str, expected: (usize, usize)) {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let of = job(&json!({}), "forever")["spec"].clone();
    let spec =
        json!({"schedule": "@every 1s", "suspend": true, "concurrencyPolicy": policy, "jobTemplate": {"spec": of}});
    let tick = cluster.make("cronjobs", &json!({"metadata": {"name": "tick"}, "spec": spec})).await;
    let owner =
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": "tick", "uid": uid(&tick), "controller": true});
    let old = json!({"metadata": {"name": "old", "ownerReferences": [owner]}, "spec": of});
    let old = cluster.make("jobs", &old).await;
    let active = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "old", "namespace": "ns", "uid": uid(&old)});
    cluster.change("cronjobs/tick/status", &json!({"status": {"active": [active]}})).await;
    assert_eq!(cluster.all_of("jobs").await.len(), 1, "a suspended CronJob starts nothing");
    cluster.change("cronjobs/tick", &json!({"spec": {"suspend": false}})).await;
    if policy == "Forbid" {
        // It is told when a time has come and nothing was started.
        events(&cluster, &["JobAlreadyActive"]).await;
    }
    let as_wanted = || async {
        let (old, new): (Vec<_>, Vec<_>) = cluster.all_of("jobs").await.into_iter().partition(|job| name(job) == "old");
        let active = cluster.read("cronjobs/tick").await?["status"]["active"].as_array().map_or(0, Vec::len);
        ((old.len(), new.len()) == expected && active == expected.0 + expected.1).then_some(())
    };
    cluster.until(policy, as_wanted).await;
}

/// Conformance: CronJob "should schedule multiple jobs concurrently", "should not schedule new jobs when ForbidConcurrent", "should replace jobs
/// when ReplaceConcurrent".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_a_cron_job_meet_as_its_policy_says() {
    check_concurrency("Allow", (1, 1)).await;
    check_concurrency("Forbid", (1, 0)).await;
    check_concurrency("Replace", (0, 1)).await;
}
