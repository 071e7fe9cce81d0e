//! Who owns the claims of a StatefulSet: `persistentVolumeClaimRetentionPolicy`. A claim that its
//! set or its pod owns goes with it.

use crate::control;
use xebec_types::apps::StatefulSet;
use xebec_types::core::{PersistentVolumeClaim, Pod};
use xebec_types::{ObjectMeta, OwnerReference, object};

/// Owners of a claim that is made for a member of the set.
pub(super) fn first_owners(set: &StatefulSet) -> Option<Vec<OwnerReference>> {
    deletes(set, |p| p.when_deleted.as_deref()).then(|| vec![control::controller_ref(set)])
}

/// The owners that a claim should have, if it has others. `condemned` is a pod that is going because
/// the set was scaled down.
pub(super) fn owners(
    set: &StatefulSet,
    pod: &Pod,
    condemned: bool,
    claim: &PersistentVolumeClaim,
) -> Option<Vec<OwnerReference>> {
    let known = claim.metadata.owner_references.clone().unwrap_or_default();
    let is_set = |o: &OwnerReference| o.uid == object::uid(&set.metadata);
    let is_pod = |o: &OwnerReference| o.kind == "Pod" && o.name == object::name(&pod.metadata);
    if object::controller_of(&claim.metadata).is_some_and(|o| !is_set(o) && !is_pod(o)) {
        return None; // Somebody else's.
    }
    let with_set = deletes(set, |p| p.when_deleted.as_deref());
    let with_pod = condemned && deletes(set, |p| p.when_scaled.as_deref());
    let mut wanted: Vec<_> = known.iter().filter(|o| !is_set(o) && !is_pod(o)).cloned().collect();
    if with_pod {
        wanted.push(control::controller_ref(pod));
    } else if with_set {
        wanted.push(control::controller_ref(set));
    }
    let uids = |owners: &[OwnerReference]| owners.iter().map(|o| o.uid.clone()).collect::<Vec<_>>();
    (uids(&known) != uids(&wanted)).then_some(wanted)
}

/// Whether a claim is on its way out with a former pod of the name, or by itself: a pod must wait for
/// it to be gone.
pub(super) fn is_stale(pod_name: &str, claim: &ObjectMeta) -> bool {
    let owners = claim.owner_references.iter().flatten();
    object::is_being_deleted(claim) || owners.into_iter().any(|o| o.kind == "Pod" && o.name == pod_name)
}

type Policy = xebec_types::apps::StatefulSetPersistentVolumeClaimRetentionPolicy;

fn deletes(set: &StatefulSet, when: impl Fn(&Policy) -> Option<&str>) -> bool {
    let policy = set.spec.as_ref().and_then(|s| s.persistent_volume_claim_retention_policy.as_ref());
    policy.and_then(when) == Some("Delete")
}
