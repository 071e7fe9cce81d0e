//! Acting on the graph. Before anything is deleted its owners are asked for at the server: the graph
//! may be behind.

use super::graph::{Identity, Owner, Uid};
use super::step::{Action, OwnerState, step};
use super::{Collector, graph};
use crate::control;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use xebec_client::event::EventType;
use xebec_client::kube::api::Preconditions;
use xebec_client::{DeleteParams, Error, Outcome, Patch, PatchParams, PropagationPolicy, is_conflict, is_not_found};
use xebec_types::core::ObjectReference;
use xebec_types::{ObjectMeta, finalizer, object};

/// A kind that is not served (yet) may be the owner's.
const UNKNOWN_KIND: Duration = Duration::from_secs(30);

impl Collector {
    pub(super) async fn attempt_to_delete(&self, uid: &Uid) -> Result<Outcome, Error> {
        let Some((identity, is_virtual, waits)) = self.look(uid) else { return Ok(Outcome::Done) };
        if is_virtual {
            return Ok(Outcome::Done); // Its dependents ask for it themselves.
        }
        let Some(meta) = self.live(&identity).await? else {
            self.gone(uid);
            return Ok(Outcome::Done);
        };
        if object::is_being_deleted(&meta) {
            return if waits { self.finish_foreground(&identity, &meta).await } else { Ok(Outcome::Done) };
        }
        let references = meta.owner_references.as_deref().unwrap_or_default();
        let mut states = Vec::with_capacity(references.len());
        for reference in references {
            match self.owner_state(&identity, &graph::owner(&identity, reference)).await? {
                Some(state) => states.push(state),
                None => return Ok(Outcome::After(UNKNOWN_KIND)),
            }
        }
        let has_dependents = self.graph().get(uid).is_some_and(|n| !n.dependents.is_empty());
        match step(&meta, &states, has_dependents) {
            Action::None => {}
            Action::DropOwners(gone) => {
                let mut owners = meta.owner_references.clone().unwrap_or_default();
                owners.retain(|o| !gone.contains(&o.uid));
                self.patch(&identity, &meta, json!({"ownerReferences": owners})).await?;
            }
            Action::Delete(policy) => {
                if policy == PropagationPolicy::Foreground && self.waits_in_a_circle(uid) {
                    self.unblock_owners(&identity, &meta).await?;
                }
                self.delete(&identity, policy).await?;
            }
        }
        Ok(Outcome::Done)
    }

    /// Whether something that waits for its own dependents would wait for this object's end, and this object for its: that may be a
    /// circle.
    fn waits_in_a_circle(&self, uid: &Uid) -> bool {
        let graph = self.graph();
        let dependents = graph.get(uid).into_iter().flat_map(|node| &node.dependents);
        dependents.filter_map(|dependent| graph.get(dependent)).any(|node| node.deleting_dependents)
    }

    /// Owners no longer wait for this object.
    async fn unblock_owners(&self, identity: &Identity, meta: &ObjectMeta) -> Result<(), Error> {
        let mut owners = meta.owner_references.clone().unwrap_or_default();
        let blocking: Vec<_> = owners.iter_mut().filter(|o| o.block_owner_deletion == Some(true)).collect();
        if blocking.is_empty() {
            return Ok(());
        }
        blocking.into_iter().for_each(|owner| owner.block_owner_deletion = Some(false));
        self.patch(identity, meta, json!({"ownerReferences": owners})).await
    }

    /// Lets dependents go their own way and takes the `orphan` finalizer off.
    pub(super) async fn orphan(&self, uid: &Uid) -> Result<Outcome, Error> {
        let Some((identity, ..)) = self.look(uid) else { return Ok(Outcome::Done) };
        let dependents = self.dependents(uid, |_| true);
        let work = dependents.into_iter().map(|dependent| async move {
            let Some(meta) = self.live(&dependent).await? else { return Ok(()) };
            let mut owners = meta.owner_references.clone().unwrap_or_default();
            owners.retain(|o| Uid::from(o.uid.as_str()) != *uid);
            self.patch(&dependent, &meta, json!({"ownerReferences": owners})).await
        });
        control::in_parallel(work).await.into_iter().collect::<Result<(), Error>>()?;
        if let Some(meta) = self.live(&identity).await? {
            self.drop_finalizer(&identity, &meta, finalizer::ORPHAN).await?;
        }
        Ok(Outcome::Done)
    }

    /// An owner in foreground deletion goes when nothing blocks it any more.
    async fn finish_foreground(&self, identity: &Identity, meta: &ObjectMeta) -> Result<Outcome, Error> {
        let blocking = self.dependents(&identity.uid, |node| node.blocks(&identity.uid));
        if blocking.is_empty() {
            self.drop_finalizer(identity, meta, finalizer::FOREGROUND_DELETION).await?;
        }
        let undeleted = self.dependents(&identity.uid, |node| !node.deleting);
        undeleted.into_iter().for_each(|d| self.queue.add(graph::Work::Delete(d.uid)));
        Ok(Outcome::Done)
    }

    fn look(&self, uid: &Uid) -> Option<(Identity, bool, bool)> {
        let graph = self.graph();
        let node = graph.get(uid)?;
        Some((node.identity.clone(), node.is_virtual, node.deleting_dependents))
    }

    fn dependents(&self, uid: &Uid, want: impl Fn(&graph::Node) -> bool) -> Vec<Identity> {
        let graph = self.graph();
        let Some(node) = graph.get(uid) else { return Vec::new() };
        let dependents = node.dependents.iter().filter_map(|uid| graph.get(uid));
        dependents.filter(|node| want(node)).map(|node| node.identity.clone()).collect()
    }

    /// `None` if the owner's kind is not served.
    async fn owner_state(&self, dependent: &Identity, owner: &Owner) -> Result<Option<OwnerState>, Error> {
        let identity = &owner.identity;
        let Some(kind) = self.kind(&identity.kind) else { return Ok(None) };
        if kind.namespaced && dependent.namespace().is_empty() {
            // A cluster-scoped object cannot have such an owner; nothing may be deleted for it.
            self.complain(dependent, owner);
            return Ok(Some(OwnerState::Solid));
        }
        let Some(meta) = self.live(identity).await? else { return Ok(Some(OwnerState::Absent)) };
        let waits = object::is_being_deleted(&meta) && object::has_finalizer(&meta, finalizer::FOREGROUND_DELETION);
        Ok(Some(if waits { OwnerState::WaitsForDependents } else { OwnerState::Solid }))
    }

    fn complain(&self, dependent: &Identity, owner: &Owner) {
        let message = format!(
            "ownerRef [{}/{}, namespace: , name: {}, uid: {}] does not exist in namespace \"\"",
            owner.identity.kind.group,
            owner.identity.kind.name,
            owner.identity.name(),
            owner.identity.uid
        );
        let object = ObjectReference {
            kind: Some(dependent.kind.name.to_string()),
            name: Some(dependent.name().to_owned()),
            uid: Some(dependent.uid.to_string()),
            ..ObjectReference::default()
        };
        self.recorder.record_ref(object, EventType::Warning, "OwnerRefInvalidNamespace", message);
    }

    /// The object as the server has it; `None` if it is gone or its name is another object's.
    async fn live(&self, identity: &Identity) -> Result<Option<Arc<ObjectMeta>>, Error> {
        let Some(kind) = self.kind(&identity.kind) else { return Ok(None) };
        let api = kind.within(&self.client, identity.namespace());
        match api.get_metadata(identity.name()).await {
            Ok(found) if Uid::from(object::uid(&found.metadata)) == identity.uid => Ok(Some(Arc::new(found.metadata))),
            Ok(_) => Ok(None),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, identity: &Identity, policy: PropagationPolicy) -> Result<(), Error> {
        let Some(kind) = self.kind(&identity.kind) else { return Ok(()) };
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions { uid: Some(identity.uid.to_string()), resource_version: None }),
            ..DeleteParams::default()
        };
        let api = kind.within(&self.client, identity.namespace());
        match api.delete(identity.name(), &params).await {
            Ok(_) => {
                tracing::debug!(kind = %identity.kind.name, name = identity.name(), "collected");
                Ok(())
            }
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn drop_finalizer(&self, identity: &Identity, meta: &ObjectMeta, name: &str) -> Result<(), Error> {
        let mut finalizers = meta.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|f| f == name) {
            return Ok(());
        }
        finalizers.retain(|f| f != name);
        self.patch(identity, meta, json!({"finalizers": finalizers})).await
    }

    /// Changes metadata, unless the object changed since `meta` was read.
    async fn patch(&self, identity: &Identity, meta: &ObjectMeta, mut change: serde_json::Value) -> Result<(), Error> {
        let Some(kind) = self.kind(&identity.kind) else { return Ok(()) };
        change["uid"] = json!(meta.uid);
        change["resourceVersion"] = json!(meta.resource_version);
        let patch = Patch::Merge(json!({"metadata": change}));
        let api = kind.within(&self.client, identity.namespace());
        match api.patch_metadata(identity.name(), &PatchParams::default(), &patch).await {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => Ok(()),
        }
    }
}
