//! A StatefulSet and what is there of it, read once.

use crate::statefulset::identity;
use std::sync::Arc;
use std::time::Duration;
use xebec_types::apps::{RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec};
use xebec_types::core::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use xebec_types::time::Timestamp;
use xebec_types::{IntOrString, object, pod};

/// A template by the name of its ControllerRevision.
#[derive(Clone, Debug)]
pub struct Revision {
    pub name: String,
    pub template: PodTemplateSpec,
}

/// The place of one ordinal.
#[derive(Debug)]
pub struct Slot {
    pub ordinal: i32,
    pub pod: Option<Arc<Pod>>,
}

/// Finds a claim by name in the set's namespace.
pub type Claims<'a> = &'a (dyn Fn(&str) -> Option<Arc<PersistentVolumeClaim>> + Sync);

/// What a step sees.
pub struct View<'a> {
    pub set: &'a StatefulSet,
    pub current: &'a Revision,
    pub update: &'a Revision,
    /// Every ordinal that should have a pod, in order.
    pub slots: Vec<Slot>,
    /// Pods with ordinals outside, highest first.
    pub condemned: Vec<(i32, Arc<Pod>)>,
    claims: Claims<'a>,
    now: Timestamp,
}

impl<'a> View<'a> {
    #[must_use]
    pub fn new(
        set: &'a StatefulSet,
        pods: &[Arc<Pod>],
        (current, update): (&'a Revision, &'a Revision),
        claims: Claims<'a>,
        now: Timestamp,
    ) -> Self {
        let spec = set.spec.as_ref();
        let start = spec.and_then(|s| s.ordinals.as_ref()?.start).unwrap_or_default();
        let replicas = spec.and_then(|s| s.replicas).unwrap_or(1);
        let mut slots: Vec<_> =
            (start..start.saturating_add(replicas)).map(|ordinal| Slot { ordinal, pod: None }).collect();
        let mut condemned = Vec::new();
        for pod in pods {
            let Some(ordinal) = identity::ordinal(set, pod) else { continue };
            let at = usize::try_from(ordinal - start).ok();
            match at.and_then(|at| slots.get_mut(at)) {
                Some(slot) => slot.pod = Some(Arc::clone(pod)),
                None => condemned.push((ordinal, Arc::clone(pod))),
            }
        }
        condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        Self { set, current, update, slots, condemned, claims, now }
    }

    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.slots.iter().filter_map(|slot| slot.pod.as_ref()).chain(self.condemned.iter().map(|(_, pod)| pod))
    }

    pub fn is_ordered(&self) -> bool {
        self.spec(|s| s.pod_management_policy.as_deref()) != Some("Parallel")
    }

    pub fn is_on_delete(&self) -> bool {
        self.spec(|s| s.update_strategy.as_ref()?.type_.as_deref()) == Some("OnDelete")
    }

    pub fn partition(&self) -> usize {
        let partition = self.rolling().and_then(|r| r.partition).unwrap_or_default();
        usize::try_from(partition).unwrap_or_default()
    }

    /// Rounded up, and never zero: an update has to move.
    pub fn max_unavailable(&self) -> usize {
        let replicas = self.slots.len();
        match self.rolling().and_then(|r| r.max_unavailable.as_ref()) {
            None => 1,
            Some(IntOrString::Int(count)) => usize::try_from(*count).unwrap_or(1).max(1),
            Some(IntOrString::String(text)) => {
                let percent: usize = text.strip_suffix('%').and_then(|p| p.parse().ok()).unwrap_or_default();
                (replicas * percent).div_ceil(100).max(1)
            }
        }
    }

    fn rolling(&self) -> Option<&RollingUpdateStatefulSetStrategy> {
        self.spec(|s| s.update_strategy.as_ref()?.rolling_update.as_ref())
    }

    fn spec<'s, T>(&'s self, field: impl FnOnce(&'s StatefulSetSpec) -> Option<T>) -> Option<T> {
        self.set.spec.as_ref().and_then(field)
    }

    /// The template for a pod that is made now: below the partition the one that the others there
    /// have, and without a partition the current one for as many as are left of it.
    pub fn revision_for(&self, ordinal: i32) -> &'a Revision {
        let start = self.slots.first().map_or(0, |slot| slot.ordinal);
        let status = self.set.status.as_ref();
        let kept = match self.rolling() {
            _ if self.is_on_delete() => 0,
            Some(rolling) => rolling.partition.unwrap_or_default(),
            None => status.and_then(|s| s.current_replicas).unwrap_or_default(),
        };
        if ordinal - start < kept { self.current } else { self.update }
    }

    pub fn is_available(&self, pod: &Pod) -> bool {
        pod::is_available(pod, self.min_ready_seconds(), self.now)
    }

    pub fn min_ready_seconds(&self) -> i32 {
        self.spec(|s| s.min_ready_seconds).unwrap_or_default()
    }

    /// The lowest member that does not work, or else the lowest of those that should go.
    pub fn first_unavailable(&self) -> Option<Arc<Pod>> {
        let members = self.slots.iter().filter_map(|slot| slot.pod.as_ref());
        let condemned = self.condemned.iter().rev().map(|(_, pod)| pod);
        members.chain(condemned).find(|pod| !self.is_healthy(pod)).cloned()
    }

    pub fn is_healthy(&self, pod: &Pod) -> bool {
        is_running_and_ready(pod) && !pod::is_terminating(pod) && self.is_available(pod)
    }

    pub fn claims_of(&self, ordinal: i32) -> impl Iterator<Item = Arc<PersistentVolumeClaim>> {
        let templates = identity::claim_templates(self.set).iter();
        templates.filter_map(move |template| (self.claims)(&identity::claim_name(self.set, template, ordinal)))
    }

    pub fn missing_claims(&self, ordinal: i32) -> Vec<PersistentVolumeClaim> {
        let mut claims = identity::new_claims(self.set, ordinal);
        claims.retain(|claim| (self.claims)(object::name(&claim.metadata)).is_none());
        claims
    }

    /// When the next ready pod becomes available.
    #[must_use]
    pub fn recheck(&self) -> Option<Duration> {
        let wait = |pod: &Arc<Pod>| pod::available_in(pod, self.min_ready_seconds(), self.now);
        self.pods().filter_map(wait).filter(|wait| !wait.is_zero()).min()
    }
}

impl Slot {
    pub fn is_healthy(&self, view: &View<'_>) -> bool {
        self.pod.as_ref().is_some_and(|pod| view.is_healthy(pod))
    }
}

pub(super) fn is_running_and_ready(pod: &Pod) -> bool {
    pod::phase(pod) == "Running" && pod::is_ready(pod)
}
