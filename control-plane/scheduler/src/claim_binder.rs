//! Writes what the claims of a pod got, before the pod can be bound: upstream's `bindClaim`.
//!
//! Every write carries the version that was decided on: whoever was faster makes the pod wait for another decision.

use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;
use xebec_client::{Api, Client, Error, Patch, PatchParams};
use xebec_types::device::{self, ResourceClaim};
use xebec_types::{finalizer, object};

use crate::cluster::{Assigned, Assignment, PodInfo};

#[derive(Default)]
pub struct ClaimBinder(JoinSet<ClaimsWritten>);

/// An assignment that is written, or why not, with the claims as they are since.
pub struct ClaimsWritten {
    pub pod: Arc<PodInfo>,
    pub claims: Vec<ResourceClaim>,
    pub result: Result<(), Error>,
}

impl ClaimBinder {
    pub fn start(&mut self, client: &Client, pod: Arc<PodInfo>, assignment: Assignment) {
        let client = client.clone();
        self.0.spawn(async move {
            let mut claims = Vec::new();
            let mut result = Ok(());
            for assigned in assignment.claims {
                result = write(&client, &pod, &assigned, &mut claims).await;
                if result.is_err() {
                    break;
                }
            }
            ClaimsWritten { pod, claims, result }
        });
    }

    /// The next assignment that is written; None if none is being written.
    pub async fn written(&mut self) -> Option<ClaimsWritten> {
        self.0.join_next().await.and_then(Result::ok)
    }
}

async fn write(
    client: &Client,
    pod: &PodInfo,
    assigned: &Assigned,
    written: &mut Vec<ResourceClaim>,
) -> Result<(), Error> {
    let Assigned { claim, allocation } = assigned;
    let api: Api<ResourceClaim> = Api::namespaced(client.clone(), object::namespace(&claim.metadata));
    let (name, params) = (object::name(&claim.metadata), PatchParams::default());
    let mut version = claim.metadata.resource_version.clone();
    // The claim must not go while it has devices.
    if allocation.is_some() && !object::has_finalizer(&claim.metadata, finalizer::DELETE_PROTECTION) {
        let known = claim.metadata.finalizers.iter().flatten().map(String::as_str);
        let finalizers: Vec<&str> = known.chain([finalizer::DELETE_PROTECTION]).collect();
        let patch =
            json!({"metadata": {"resourceVersion": version, "uid": claim.metadata.uid, "finalizers": finalizers}});
        let protected = api.patch(name, &params, &Patch::Merge(patch)).await?;
        version.clone_from(&protected.metadata.resource_version);
        written.push(protected);
    }
    let mut consumers = device::reserved_for(claim).to_vec();
    consumers.push(device::consumer(&pod.pod()));
    let mut status = json!({"reservedFor": consumers});
    if let Some(allocation) = allocation {
        status["allocation"] = json!(allocation);
    }
    let patch = json!({"metadata": {"resourceVersion": version, "uid": claim.metadata.uid}, "status": status});
    written.push(api.patch_status(name, &params, &Patch::Merge(patch)).await?);
    Ok(())
}

/// Takes the devices of a claim back that pins a pod to nodes it cannot go to: upstream's `PostFilter`.
pub async fn deallocate(client: &Client, claim: &ResourceClaim) -> Result<(), Error> {
    let api: Api<ResourceClaim> = Api::namespaced(client.clone(), object::namespace(&claim.metadata));
    let metadata = json!({"resourceVersion": claim.metadata.resource_version, "uid": claim.metadata.uid});
    let patch = json!({"metadata": metadata, "status": {"allocation": null, "reservedFor": null}});
    api.patch_status(object::name(&claim.metadata), &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ())
}
