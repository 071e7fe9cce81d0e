use super::*;
use xebec_types::apps::{Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSetStatus, RollingUpdateDeployment};
use xebec_types::core::{Container, PodSpec, PodTemplateSpec};
use xebec_types::time::{self, Timestamp};
use xebec_types::{IntOrString, ObjectMeta};

/// A cluster in which pods become available or go when `settle` says so.
struct Cluster {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    clock: i64,
}

impl Cluster {
    fn new(replicas: i32, surge: &str, unavailable: &str) -> Self {
        let number = |text: &str| match text.parse() {
            Ok(n) => IntOrString::Int(n),
            Err(_) => IntOrString::String(text.into()),
        };
        let deployment = Deployment {
            metadata: ObjectMeta { name: Some("web".into()), ..ObjectMeta::default() },
            spec: Some(DeploymentSpec {
                replicas: Some(replicas),
                strategy: Some(DeploymentStrategy {
                    type_: Some("RollingUpdate".into()),
                    rolling_update: Some(RollingUpdateDeployment {
                        max_surge: Some(number(surge)),
                        max_unavailable: Some(number(unavailable)),
                    }),
                }),
                template: image("v1"),
                ..DeploymentSpec::default()
            }),
            status: None,
        };
        Self { deployment, sets: Vec::new(), clock: 0 }
    }

    fn spec(&mut self) -> &mut DeploymentSpec {
        self.deployment.spec.get_or_insert_default()
    }

    fn plan(&self, pods_of_old: bool) -> Plan {
        let sets: Vec<_> = self.sets.iter().cloned().map(Arc::new).collect();
        step(&View::new(&self.deployment, &sets), pods_of_old)
    }

    /// Applies one plan; answers whether it wrote anything.
    fn step(&mut self, pods_of_old: bool) -> bool {
        let plan = self.plan(pods_of_old);
        let view_sets: Vec<_> = self.sets.iter().cloned().map(Arc::new).collect();
        let view = View::new(&self.deployment, &view_sets);
        let annotations = template::scale_annotations(&view);
        let mut wrote = plan.create.is_some() || !plan.scale.is_empty() || !plan.delete.is_empty();
        if let Some(set) = plan.annotate {
            wrote = true;
            let known = self.sets.iter_mut().find(|s| s.metadata.name == set.metadata.name);
            *known.expect("the new set exists") = set;
        }
        for scale in plan.scale {
            let name = &scale.set.metadata.name;
            let set = self.sets.iter_mut().find(|s| s.metadata.name == *name).expect("exists");
            set.spec.get_or_insert_default().replicas = Some(scale.to);
            set.metadata.annotations.get_or_insert_default().extend(annotations.clone());
        }
        for gone in plan.delete {
            self.sets.retain(|s| s.metadata.name != gone.metadata.name);
        }
        if let Some(mut set) = plan.create {
            self.clock += 1;
            let at = Timestamp::from_second(self.clock).expect("in range");
            set.metadata.creation_timestamp = Some(time::time(at));
            self.sets.push(set);
        }
        if let Some(revision) = plan.revision {
            wrote = true;
            let annotations = self.deployment.metadata.annotations.get_or_insert_default();
            annotations.insert(annotation::REVISION.into(), revision.to_string());
        }
        wrote
    }

    /// Lets up to `count` pods of every set start or go.
    fn settle(&mut self, count: i32) {
        for set in &mut self.sets {
            let wanted = wanted(set);
            let status = set.status.get_or_insert_with(ReplicaSetStatus::default);
            let have = status.available_replicas.unwrap_or_default();
            let new = have + (wanted - have).clamp(-count, count);
            status.available_replicas = Some(new);
            status.replicas = wanted.max(new.min(have));
            if wanted <= new {
                status.replicas = new;
            }
        }
    }

    fn roll(&mut self) {
        for _ in 0..200 {
            let wrote = self.step(false);
            self.check_bounds();
            self.settle(1);
            if !wrote && is_settled(self) {
                return;
            }
        }
        panic!("the rollout does not end: {:?}", self.sizes());
    }

    #[track_caller]
    fn check_bounds(&self) {
        let sets: Vec<_> = self.sets.iter().cloned().map(Arc::new).collect();
        let view = View::new(&self.deployment, &sets);
        let total: i32 = self.sets.iter().map(wanted).sum();
        let most = view.replicas() + view.max_surge();
        assert!(total <= most, "{total} pods wanted, {most} allowed: {:?}", self.sizes());
        // What is not wanted may go at once: only what is both wanted and there counts.
        let surviving: i32 = self.sets.iter().map(|s| wanted(s).min(available(s))).sum();
        let before: i32 = self.sets.iter().map(available).sum();
        let least = view.replicas() - view.max_unavailable();
        let fell = before >= least && surviving < least;
        assert!(!fell, "{surviving} pods left, {least} needed: {:?}", self.sizes());
    }

    fn sizes(&self) -> Vec<(i32, i32)> {
        self.sets.iter().map(|s| (wanted(s), available(s))).collect()
    }
}

fn is_settled(cluster: &Cluster) -> bool {
    cluster.sets.iter().all(|s| wanted(s) == available(s))
}

fn image(image: &str) -> PodTemplateSpec {
    PodTemplateSpec {
        spec: Some(PodSpec {
            containers: vec![Container { image: Some(image.into()), ..Container::default() }],
            ..PodSpec::default()
        }),
        ..PodTemplateSpec::default()
    }
}

#[track_caller]
fn check_rollout(replicas: i32, surge: &str, unavailable: &str) {
    let mut cluster = Cluster::new(replicas, surge, unavailable);
    cluster.roll();
    assert_eq!(cluster.sizes(), [(replicas, replicas)]);
    cluster.spec().template = image("v2");
    cluster.roll();
    assert_eq!(cluster.sizes(), [(0, 0), (replicas, replicas)], "{surge} {unavailable}");
    assert!(!cluster.step(false), "a step on a settled Deployment is a no-op");
}

#[test]
fn a_rolling_update_stays_within_its_bounds() {
    for (surge, unavailable) in [("1", "0"), ("0", "1"), ("25%", "25%"), ("0", "0"), ("100%", "0")] {
        for replicas in [1, 2, 3, 10] {
            check_rollout(replicas, surge, unavailable);
        }
    }
}

#[test]
fn an_undo_takes_the_old_set_up_again_under_a_new_revision() {
    let mut cluster = Cluster::new(3, "1", "0");
    cluster.roll();
    cluster.spec().template = image("v2");
    cluster.roll();
    cluster.spec().template = image("v1");
    cluster.roll();
    assert_eq!(cluster.sizes(), [(3, 3), (0, 0)]);
    let get = |set: &ReplicaSet, key: &str| object::annotation(&set.metadata, key).map(String::from);
    assert_eq!(get(&cluster.sets[0], annotation::REVISION).as_deref(), Some("3"));
    assert_eq!(get(&cluster.sets[0], annotation::REVISION_HISTORY).as_deref(), Some("1"));
    let revision = object::annotation(&cluster.deployment.metadata, annotation::REVISION);
    assert_eq!(revision, Some("3"));
}

#[test]
fn a_broken_rollout_keeps_the_old_pods() {
    let mut cluster = Cluster::new(4, "25%", "25%");
    cluster.roll();
    cluster.spec().template = image("broken");
    for _ in 0..10 {
        cluster.step(false);
        cluster.check_bounds();
    }
    // One may be missing and one more may be there: two new ones that never start.
    assert_eq!(cluster.sizes(), [(3, 4), (2, 0)]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut cluster = Cluster::new(2, "1", "0");
    cluster.roll();
    cluster.spec().paused = Some(true);
    cluster.spec().template = image("v2");
    cluster.spec().replicas = Some(5);
    cluster.roll();
    assert_eq!(cluster.sizes(), [(5, 5)]);
}

#[test]
fn scaling_in_the_middle_keeps_the_shares() {
    let mut cluster = Cluster::new(10, "3", "2");
    cluster.roll();
    cluster.spec().template = image("v2");
    cluster.step(false);
    cluster.step(false);
    cluster.step(false);
    assert_eq!(cluster.sizes(), [(8, 10), (5, 0)], "upstream's example");
    cluster.spec().replicas = Some(15);
    let plan = cluster.plan(false);
    let mut to: Vec<i32> = plan.scale.iter().map(|s| s.to).collect();
    to.sort_unstable();
    assert_eq!(to, [7, 11], "five more, 3 to the larger and 2 to the smaller");
}

#[test]
fn a_recreate_waits_until_no_old_pod_is_left() {
    let mut cluster = Cluster::new(3, "1", "0");
    cluster.roll();
    cluster.spec().strategy.get_or_insert_default().type_ = Some("Recreate".into());
    cluster.spec().template = image("v2");
    assert!(cluster.step(true));
    assert_eq!(cluster.sizes(), [(0, 3)]);
    assert!(!cluster.step(true), "old pods still run");
    cluster.settle(3);
    cluster.step(false);
    assert_eq!(cluster.sizes(), [(0, 0), (3, 0)]);
}

#[test]
fn history_is_kept_up_to_the_limit() {
    let mut cluster = Cluster::new(1, "1", "0");
    cluster.spec().revision_history_limit = Some(2);
    for version in 0..6 {
        cluster.spec().template = image(&format!("v{version}"));
        cluster.roll();
    }
    assert_eq!(cluster.sets.len(), 3, "the current one and two more");
    let oldest = cluster.sets.iter().map(revision).min();
    assert_eq!(oldest, Some(4));
}

#[test]
fn labels_and_hash_of_a_new_set_agree() {
    let cluster = Cluster::new(1, "1", "0");
    let set = cluster.plan(false).create.expect("no set yet");
    let hash = object::label(&set.metadata, xebec_types::label::POD_TEMPLATE_HASH).expect("label");
    assert_eq!(set.metadata.name.as_deref(), Some(format!("web-{hash}").as_str()));
    let spec = set.spec.as_ref().expect("spec");
    assert_eq!(spec.selector.match_labels.as_ref().and_then(|l| l.values().next()).map(String::as_str), Some(hash));
    let view = View::new(&cluster.deployment, &[Arc::new(set.clone())]);
    assert!(view.new.is_some(), "the set is the Deployment's current one");
    let other = template::hash(&image("v1"), Some(1));
    assert_ne!(other, template::hash(&image("v1"), None), "a collision gives another name");
}
