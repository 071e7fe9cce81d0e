//! What a pod needs before it can be bound to the node that was chosen: devices for its claims, then volumes.

use std::sync::Arc;

use tokio::time::Instant;
use xebec_client::{Change, EventType, chain};
use xebec_types::object;

use super::Scheduler;
use crate::claim_binder::{self, ClaimsWritten};
use crate::cluster::{Assignment, Devices, NodeIndex, PodInfo, Volumes};
use crate::framework::{Plugin, Plugins};
use crate::plugins::dynamic_resources;
use crate::volume_binder::Settled;

impl Scheduler {
    /// What the pod's claims are to be told before it is bound; none if nothing. An error is a pod that must not be bound without its devices.
    pub(super) fn assign_devices(&self, pod: &PodInfo, node: NodeIndex) -> Result<Option<Assignment>, ()> {
        match dynamic_resources::pre_filter(pod, &self.cluster) {
            Ok(None) => Ok(None),
            Ok(Some(state)) => {
                let assignment = state.plan(self.cluster.node(node)).ok_or(())?;
                Ok(Some(assignment).filter(|assignment| !assignment.claims.is_empty()))
            }
            Err(_) => Err(()),
        }
    }

    /// The claims of a pod have their devices, or somebody was faster.
    pub(super) fn finish_claims(&mut self, ClaimsWritten { pod, claims, result }: ClaimsWritten) {
        for claim in claims {
            let change = Change { old: None, new: Some(Arc::new(claim)) };
            self.cluster.devices_mut().learn_claim(&change);
        }
        let assignment = self.cluster.devices.assignment_of(&pod.uid).cloned();
        let Some(assignment) = assignment.filter(|_| self.cluster.is_assumed(&pod.uid)) else { return };
        match result {
            Ok(()) => {
                self.cluster.devices_mut().forget(&pod.uid);
                self.bind_volumes(pod, assignment.node);
            }
            Err(error) => {
                let now = Instant::now();
                self.give_up(&pod, now);
                self.queue.back_off(&pod.uid, now);
                let message = format!("running PreBind plugin \"DynamicResources\": {}", chain(&error));
                self.recorder.record(&*pod.pod(), EventType::Warning, "FailedScheduling", message);
            }
        }
    }

    /// Sees to the volumes that were assumed for a pod, then binds it.
    pub(super) fn bind_volumes(&mut self, pod: Arc<PodInfo>, node: Arc<str>) {
        match self.cluster.volumes.plan_of(&pod.uid) {
            None => self.bind(pod, node),
            Some(plan) => self.volume_binder.start(&self.client, pod, plan, &self.cluster.volumes),
        }
    }

    /// The volumes of a pod are there, or will not be.
    pub(super) fn finish_volumes(&mut self, (pod, outcome): Settled) {
        let plan = self.cluster.volumes.plan_of(&pod.uid).cloned();
        let Some(plan) = plan.filter(|_| self.cluster.is_assumed(&pod.uid)) else { return };
        match outcome {
            Ok(()) => self.bind(pod, plan.node),
            Err(why) => {
                let now = Instant::now();
                self.give_up(&pod, now);
                self.queue.back_off(&pod.uid, now);
                let message = format!("running PreBind plugin \"VolumeBinding\": binding volumes: {why}");
                self.recorder.record(&*pod.pod(), EventType::Warning, "FailedScheduling", message);
            }
        }
    }

    /// Frees a claim that keeps the pod from nodes where it might get devices.
    pub(super) fn deallocate(&mut self, pod: &PodInfo) {
        let Some(claim) = dynamic_resources::post_filter(pod, &self.cluster) else { return };
        let client = self.client.clone();
        self.reports.spawn(async move {
            let name = object::name(&claim.metadata);
            match claim_binder::deallocate(&client, &claim).await {
                Ok(()) => tracing::info!(claim = name, "resource claim deallocated"),
                Err(error) => tracing::debug!(claim = name, error = chain(&error), "resource claim not deallocated"),
            }
        });
    }

    pub(super) fn learn_volumes(&mut self, learn: impl FnOnce(&mut Volumes)) {
        learn(self.cluster.volumes_mut());
        self.queue.wake(of_volumes(), Instant::now());
    }

    pub(super) fn learn_devices(&mut self, learn: impl FnOnce(&mut Devices)) {
        learn(self.cluster.devices_mut());
        self.queue.wake([Plugin::DynamicResources].into(), Instant::now());
    }

    /// What the pod was to be given may go to others.
    pub(super) fn forget_devices(&mut self, uid: &str, now: Instant) {
        if self.cluster.devices.assignment_of(uid).is_some() && self.cluster.devices_mut().forget(uid) {
            self.queue.wake([Plugin::DynamicResources].into(), now);
        }
    }

    /// As [`Self::forget_devices`].
    pub(super) fn forget_volumes(&mut self, uid: &str, now: Instant) {
        self.volume_binder.forget(uid);
        if self.cluster.volumes.plan_of(uid).is_some() && self.cluster.volumes_mut().forget(uid) {
            self.queue.wake(of_volumes(), now);
        }
    }
}

/// What a change of claims, volumes and their classes may change.
fn of_volumes() -> Plugins {
    [Plugin::VolumeRestrictions, Plugin::NodeVolumeLimits, Plugin::VolumeBinding, Plugin::VolumeZone].into()
}
