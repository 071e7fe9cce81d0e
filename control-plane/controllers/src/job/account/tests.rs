use super::*;
use crate::job::backoff::Record;
use crate::job::step::step;
use crate::job::testing::{NOW, at, job, pods};
use crate::job::view::Observed;
use serde_json::{Value, json};
use xebec_types::batch::Job;

/// A Job, its pods, and a controller that may die between any two writes.
struct World {
    job: Job,
    pods: Vec<Arc<Pod>>,
}

/// After which write the controller dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dies {
    Never,
    AfterNaming,
    InTheMiddle,
    AfterReleasing,
}

impl World {
    fn new(spec: Value, all: &str) -> Self {
        Self { job: job(&spec, &json!({})), pods: pods(all) }
    }

    /// One sync without creations and deletions.
    fn sync(&mut self, dies: Dies) {
        let released = HashSet::new();
        let observed =
            Observed { job: &self.job, pods: &self.pods, released: &released, record: Record::default(), now: at(NOW) };
        let view = View::new(&observed).expect("a spec");
        let step = step(&view, true);
        let account = account(&view, step.finish.as_ref(), Done { managed: true, ..Done::default() });
        let finish = step.finish.filter(|_| !account.is_partial);
        let mut status = account.status;
        self.job.status = Some(status.clone());
        if dies == Dies::AfterNaming {
            return;
        }
        let half = if dies == Dies::InTheMiddle { account.release.len() / 2 } else { account.release.len() };
        let free: HashSet<_> = account.release[..half].iter().map(|p| p.metadata.uid.clone()).collect();
        // A finished pod stays, without its finalizer.
        for pod in self.pods.iter_mut().filter(|pod| free.contains(&pod.metadata.uid)) {
            Arc::make_mut(pod).metadata.finalizers = None;
        }
        if dies != Dies::Never {
            return;
        }
        let tracked = self.pods.iter().filter(|p| p.metadata.finalizers.is_some());
        settle(&mut status, &tracked.map(|p| object::uid(&p.metadata).to_string()).collect());
        if let Some(finish) = finish {
            conclude(&mut status, &finish, at(NOW));
        }
        self.job.status = Some(status);
    }

    fn told(&self) -> (i32, i32, String) {
        let status = self.job.status.clone().unwrap_or_default();
        let conditions = status.conditions.iter().flatten().map(|c| c.type_.clone());
        let conditions = conditions.collect::<Vec<_>>().join(",");
        (status.succeeded.unwrap_or_default(), status.failed.unwrap_or_default(), conditions)
    }
}

#[track_caller]
fn check(spec: Value, pods: &str, expected: (i32, i32, &str)) {
    for dies in [Dies::Never, Dies::AfterNaming, Dies::InTheMiddle, Dies::AfterReleasing] {
        let mut world = World::new(spec.clone(), pods);
        world.sync(dies);
        world.sync(Dies::Never);
        world.sync(Dies::Never);
        let (succeeded, failed, conditions) = world.told();
        assert_eq!((succeeded, failed, conditions.as_str()), expected, "{pods:?}, {dies:?}");
        let left = world.pods.iter().filter(|p| p.metadata.finalizers.is_some() && xebec_types::pod::is_terminal(p));
        assert_eq!(left.count(), 0, "every pod that ended was let go");
    }
}

#[test]
fn pods_are_counted_once_wherever_the_controller_dies() {
    let three = json!({"completions": 3, "parallelism": 3});
    check(three.clone(), "a:done b:failed c:running", (1, 1, ""));
    check(three.clone(), "a:done b:done c:done", (3, 0, "SuccessCriteriaMet,Complete"));
    check(three, "a:done b:failed c:failed d:done e:running", (2, 2, ""));
    let strict = json!({"completions": 3, "parallelism": 3, "backoffLimit": 0});
    check(strict, "a:done b:failed", (1, 1, "FailureTarget,Failed"));
    let indexed = json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed"});
    check(indexed, "a#0:done b#1:done c#1:done", (2, 0, "SuccessCriteriaMet,Complete"));
}

#[test]
fn an_ignored_failure_is_let_go_uncounted() {
    let policy = json!({"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [42]}}]});
    let spec = json!({"completions": 2, "parallelism": 2, "podFailurePolicy": policy});
    check(spec, "a:exit42 b:running", (0, 0, ""));
}

#[test]
fn a_job_ends_only_when_its_last_pod_did() {
    let mut world = World::new(json!({"completions": 1, "parallelism": 1, "backoffLimit": 0}), "a:failed b:running-");
    world.sync(Dies::Never);
    assert_eq!(world.told().2, "FailureTarget");
    world.pods.pop();
    world.sync(Dies::Never);
    assert_eq!(world.told().2, "FailureTarget,Failed");
}

#[test]
fn many_pods_are_named_in_parts() {
    let many: Vec<String> = (0..1200).map(|n| format!("p{n}:done")).collect();
    let mut world = World::new(json!({"completions": 1200, "parallelism": 1200}), &many.join(" "));
    let mut rounds = 0;
    while world.told().2 != "SuccessCriteriaMet,Complete" {
        world.sync(Dies::Never);
        rounds += 1;
        assert!(rounds < 9, "it ends: {:?}", world.told());
    }
    assert_eq!(world.told().0, 1200);
    assert!(rounds > 2, "500 at a time");
}

#[test]
fn suspending_and_resuming_is_told() {
    let mut world = World::new(json!({"completions": 1, "parallelism": 1, "suspend": true}), "");
    world.sync(Dies::Never);
    let suspended = |world: &World| {
        let status = world.job.status.clone().unwrap_or_default();
        let condition = status.conditions.unwrap_or_default().into_iter().find(|c| c.type_ == "Suspended");
        (condition.map(|c| c.status), status.start_time.is_some())
    };
    assert_eq!(suspended(&world), (Some("True".into()), false));
    world.job.spec.get_or_insert_default().suspend = Some(false);
    world.sync(Dies::Never);
    assert_eq!(suspended(&world), (Some("False".into()), true));
}
