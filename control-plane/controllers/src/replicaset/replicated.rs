//! The two kinds that keep a number of equal pods.

use crate::control::pods::Owner;
use crate::replicaset::step;
use std::sync::Arc;
use xebec_types::apps::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use xebec_types::core::{Pod, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus};
use xebec_types::{LabelSelector, object, pod};

pub(super) trait Replicated: Owner + serde::Serialize {
    /// The source of its Events, as upstream names it.
    const COMPONENT: &'static str;
    /// Whether its status counts terminating pods.
    const TELLS_TERMINATING: bool;

    fn as_set(this: &Arc<Self>) -> Arc<ReplicaSet>;

    /// Itself with another status.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Owner for ReplicaSet {
    fn selects(&self, pod: &Pod) -> bool {
        step::selects(self, pod)
    }

    fn wants(&self, pod: &Pod) -> bool {
        pod::is_active(pod)
    }
}

impl Replicated for ReplicaSet {
    const COMPONENT: &'static str = "replicaset-controller";
    const TELLS_TERMINATING: bool = true;

    fn as_set(this: &Arc<Self>) -> Arc<ReplicaSet> {
        Arc::clone(this)
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self { status: Some(status), ..self.clone() }
    }
}

impl Owner for ReplicationController {
    fn selects(&self, pod: &Pod) -> bool {
        let selector = self.spec.as_ref().and_then(|s| s.selector.as_ref());
        selector.is_some_and(|s| object::map_selects(s, pod.metadata.labels.as_ref()))
    }

    fn wants(&self, pod: &Pod) -> bool {
        pod::is_active(pod)
    }
}

impl Replicated for ReplicationController {
    const COMPONENT: &'static str = "replication-controller";
    const TELLS_TERMINATING: bool = false;

    fn as_set(this: &Arc<Self>) -> Arc<ReplicaSet> {
        let spec = this.spec.clone().unwrap_or_default();
        let condition = |c: ReplicationControllerCondition| ReplicaSetCondition {
            type_: c.type_,
            status: c.status,
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        let status = this.status.clone().map(|status| ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            terminating_replicas: None,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
        });
        Arc::new(ReplicaSet {
            metadata: this.metadata.clone(),
            spec: Some(ReplicaSetSpec {
                replicas: spec.replicas,
                min_ready_seconds: spec.min_ready_seconds,
                selector: LabelSelector { match_labels: spec.selector, match_expressions: None },
                template: spec.template,
            }),
            status,
        })
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let condition = |c: ReplicaSetCondition| ReplicationControllerCondition {
            type_: c.type_,
            status: c.status,
            reason: c.reason,
            message: c.message,
            last_transition_time: c.last_transition_time,
        };
        let status = ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
        };
        Self { status: Some(status), ..self.clone() }
    }
}
