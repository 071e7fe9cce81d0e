use crate::cluster::PodInfo;
use crate::framework::Reason;

/// Nobody allocates devices here: a pod that claims some waits, rather than run without them.
pub fn pre_filter(pod: &PodInfo) -> Result<(), Reason> {
    let claims = pod.pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref()).unwrap_or_default();
    match claims.first() {
        None => Ok(()),
        Some(claim) => {
            let text = format!("resource claim {:?} cannot be allocated: resource.k8s.io is not served", claim.name);
            Err(Reason(text.into()))
        }
    }
}
