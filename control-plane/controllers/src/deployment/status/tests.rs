use super::*;
use std::sync::Arc;
use xebec_types::apps::{Deployment, DeploymentSpec, ReplicaSetSpec, ReplicaSetStatus};

fn deployment(status: DeploymentStatus) -> Deployment {
    let mut deployment = Deployment::default();
    deployment.metadata.name = Some("web".into());
    deployment.spec =
        Some(DeploymentSpec { replicas: Some(2), progress_deadline_seconds: Some(60), ..DeploymentSpec::default() });
    deployment.status = Some(status);
    deployment
}

fn set(available: i32) -> Arc<ReplicaSet> {
    let mut set = ReplicaSet::default();
    set.metadata.name = Some("web-1".into());
    set.spec =
        Some(ReplicaSetSpec { replicas: Some(2), template: Some(Default::default()), ..ReplicaSetSpec::default() });
    set.status = Some(ReplicaSetStatus {
        replicas: 2,
        ready_replicas: Some(available),
        available_replicas: Some(available),
        ..ReplicaSetStatus::default()
    });
    Arc::new(set)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

#[track_caller]
fn check(status: &DeploymentStatus, kind: &str, expected: (&str, &str)) {
    let condition = status.conditions.iter().flatten().find(|c| c.type_ == kind);
    let found = condition.map(|c| (c.status.as_str(), c.reason.as_deref().unwrap_or_default()));
    assert_eq!(found, Some(expected));
}

#[test]
fn a_rollout_progresses_and_completes() {
    let empty = deployment(DeploymentStatus::default());
    let created = Progress::Created { set: "web-1".into() };
    let first = status(&View::new(&empty, &[]), &created, at(0));
    check(&first, "Progressing", ("True", "NewReplicaSetCreated"));
    check(&first, "Available", ("False", "MinimumReplicasUnavailable"));

    let started = deployment(first);
    let half = status(&View::new(&started, &[set(1)]), &Progress::None, at(10));
    check(&half, "Progressing", ("True", "ReplicaSetUpdated"));
    assert_eq!(half.unavailable_replicas, Some(1));

    let nearly = deployment(half);
    let done = status(&View::new(&nearly, &[set(2)]), &Progress::None, at(20));
    check(&done, "Progressing", ("True", "NewReplicaSetAvailable"));
    check(&done, "Available", ("True", "MinimumReplicasAvailable"));
    assert_eq!(deadline_in(&View::new(&nearly, &[set(2)]), &done, at(20)), None);

    let settled = deployment(done.clone());
    let again = status(&View::new(&settled, &[set(2)]), &Progress::None, at(900));
    assert_eq!(again, done, "a status twice is a status once");
}

#[test]
fn a_rollout_that_stands_still_is_late_after_its_deadline() {
    let empty = deployment(DeploymentStatus::default());
    let created = Progress::Created { set: "web-1".into() };
    let first = status(&View::new(&empty, &[]), &created, at(0));
    let started = deployment(first);
    let stuck = status(&View::new(&started, &[set(0)]), &Progress::None, at(1));
    let stuck = deployment(stuck);
    let view = View::new(&stuck, &[set(0)]);
    let soon = status(&view, &Progress::None, at(30));
    check(&soon, "Progressing", ("True", "ReplicaSetUpdated"));
    assert_eq!(deadline_in(&view, &soon, at(30)), Some(Duration::from_secs(32)));
    let late = status(&view, &Progress::None, at(62));
    check(&late, "Progressing", ("False", "ProgressDeadlineExceeded"));
}

#[test]
fn pausing_and_resuming_is_told() {
    let mut paused = deployment(DeploymentStatus::default());
    paused.spec.get_or_insert_default().paused = Some(true);
    let told = status(&View::new(&paused, &[set(2)]), &Progress::None, at(0));
    check(&told, "Progressing", ("Unknown", "DeploymentPaused"));
    let resumed = deployment(told);
    let told = status(&View::new(&resumed, &[set(2)]), &Progress::None, at(1));
    check(&told, "Progressing", ("Unknown", "DeploymentResumed"));
}
