//! The former templates of a workload as ControllerRevisions, as upstream's `controller/history`:
//! what `kubectl rollout history` and `undo` read.

use crate::control::pods::{self, BY_CONTROLLER};
use crate::control::{self, Claim, Resource};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use xebec_client::{
    Api, Client, Error, Informer, Key, Patch, PatchParams, PostParams, Workqueue, is_already_exists, is_not_found,
};
use xebec_types::apps::ControllerRevision;
use xebec_types::core::PodTemplateSpec;
use xebec_types::{LabelSelector, ObjectMeta, RawExtension, object};

/// What makes the present template the newest revision.
#[derive(PartialEq, Debug)]
pub(crate) enum Newest {
    /// It is that already.
    Is(Arc<ControllerRevision>),
    /// It was current before: a rollback takes it up again under a new number.
    Renumber(Arc<ControllerRevision>, i64),
    Create(Box<ControllerRevision>),
}

/// What a revision is made from.
pub(crate) struct Subject<'a, O> {
    pub owner: &'a O,
    pub template: &'a PodTemplateSpec,
    pub collision_count: Option<i32>,
    /// The label that carries the hash.
    pub hash_label: &'static str,
}

/// Finds the present template in the history, which is sorted.
pub(crate) fn newest<O: Resource>(history: &[Arc<ControllerRevision>], subject: &Subject<'_, O>) -> Newest {
    let data = data(subject.template);
    let next = history.iter().map(|r| r.revision).max().unwrap_or_default() + 1;
    let same = history.iter().rposition(|r| r.data.as_ref().is_some_and(|d| d.0 == data));
    match same {
        Some(at) if at + 1 == history.len() => Newest::Is(Arc::clone(&history[at])),
        Some(at) => Newest::Renumber(Arc::clone(&history[at]), next),
        None => Newest::Create(Box::new(revision(subject, data, next))),
    }
}

/// The template that a revision keeps.
pub(crate) fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

pub(crate) fn sort(history: &mut [Arc<ControllerRevision>]) {
    history.sort_by_cached_key(|r| {
        let created = r.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (r.revision, created, object::name(&r.metadata).to_string())
    });
}

/// The oldest revisions beyond the limit that nothing runs.
pub(crate) fn surplus(
    history: &[Arc<ControllerRevision>],
    limit: i32,
    is_live: impl Fn(&ControllerRevision) -> bool,
) -> Vec<Arc<ControllerRevision>> {
    let Ok(limit) = usize::try_from(limit) else { return Vec::new() };
    let past: Vec<_> = history.iter().filter(|r| !is_live(r)).cloned().collect();
    let surplus = past.len().saturating_sub(limit);
    past.into_iter().take(surplus).collect()
}

/// A strategic merge patch that puts the template back: upstream's format, which `kubectl` applies.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = json!(template);
    if let Some(fields) = template.as_object_mut() {
        fields.insert("$patch".into(), "replace".into());
    }
    json!({"spec": {"template": template}})
}

fn revision<O: Resource>(subject: &Subject<'_, O>, data: Value, number: i64) -> ControllerRevision {
    let owner = subject.owner.meta();
    let hash = control::hash::encoded(data.to_string().as_bytes(), subject.collision_count);
    let labels = subject.template.metadata.as_ref().and_then(|m| m.labels.clone());
    let mut labels: BTreeMap<_, _> = labels.unwrap_or_default();
    labels.insert(subject.hash_label.into(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name(object::name(owner), &hash)),
            namespace: owner.namespace.clone(),
            labels: Some(labels),
            annotations: owner.annotations.clone(),
            owner_references: Some(vec![control::controller_ref(subject.owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    }
}

/// As upstream's `ControllerRevisionName`: a long owner name is cut, not the hash.
fn name(owner: &str, hash: &str) -> String {
    let cut = owner.char_indices().nth(223).map_or(owner, |(at, _)| &owner[..at]);
    format!("{cut}-{hash}")
}

/// What the revisions of one owner are found by.
pub(crate) struct Histories {
    pub client: Client,
    pub revisions: Arc<Informer<ControllerRevision>>,
}

/// A name that is taken by something else: the owner's collision count has to grow.
#[derive(Debug)]
pub(crate) struct Collision;

impl Histories {
    pub(crate) fn new(context: &crate::Context) -> Self {
        let revisions = context.informers.informer::<ControllerRevision>();
        revisions.add_index(BY_CONTROLLER, |revision| pods::controller_index(&revision.metadata));
        Self { client: context.client.clone(), revisions }
    }

    /// An owner of this kind looks again when a revision of its is deleted: what runs must have one.
    pub(crate) fn watch(&self, queue: &Workqueue<Key>, kind: &'static str) {
        let queue = queue.clone();
        self.revisions.on_change(move |change| {
            let (Some(old), None) = (&change.old, &change.new) else { return };
            let owner = object::controller_of(&old.metadata).filter(|owner| owner.kind == kind);
            if let Some(owner) = owner {
                queue.add(Key::new(object::namespace(&old.metadata), &owner.name));
            }
        });
    }

    /// The owner's revisions, sorted, after adopting and releasing.
    pub(crate) async fn claimed<O: Resource>(
        &self,
        owner: &O,
        selector: &LabelSelector,
    ) -> Result<Vec<Arc<ControllerRevision>>, Error> {
        let uid = object::uid(owner.meta());
        let mut all = self.revisions.by_index(BY_CONTROLLER, uid);
        all.extend(self.revisions.by_index(BY_CONTROLLER, &pods::orphans(object::namespace(owner.meta()))));
        let mut own = Vec::new();
        for revision in all {
            let selected = object::selects(selector, revision.metadata.labels.as_ref());
            match control::claim(&revision.metadata, owner.meta(), selected) {
                Claim::Own => own.push(revision),
                Claim::Adopt if pods::still_there(&self.client, owner).await? => {
                    control::adopt(&self.client, &*revision, owner).await?;
                    own.push(revision);
                }
                Claim::Release => control::release(&self.client, &*revision, uid).await?,
                Claim::Adopt | Claim::Ignore => {}
            }
        }
        sort(&mut own);
        Ok(own)
    }

    /// Makes the present template the newest revision and answers it.
    pub(crate) async fn write(&self, newest: Newest) -> Result<Result<Arc<ControllerRevision>, Collision>, Error> {
        match newest {
            Newest::Is(revision) => Ok(Ok(revision)),
            Newest::Renumber(revision, number) => {
                let patch = Patch::Merge(json!({"metadata": {"uid": revision.metadata.uid}, "revision": number}));
                let name = object::name(&revision.metadata);
                let patched = self.api(&revision).patch(name, &PatchParams::default(), &patch).await?;
                Ok(Ok(Arc::new(patched)))
            }
            Newest::Create(revision) => self.create(&revision).await,
        }
    }

    async fn create(&self, revision: &ControllerRevision) -> Result<Result<Arc<ControllerRevision>, Collision>, Error> {
        let api = self.api(revision);
        match api.create(&PostParams::default(), revision).await {
            Ok(created) => Ok(Ok(Arc::new(created))),
            Err(error) if is_already_exists(&error) => {
                let taken = api.get(object::name(&revision.metadata)).await?;
                let same = taken.data == revision.data;
                Ok(if same { Ok(Arc::new(taken)) } else { Err(Collision) })
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn delete(&self, surplus: &[Arc<ControllerRevision>]) -> Result<(), Error> {
        for revision in surplus {
            let params = pods::exactly(&revision.metadata);
            match self.api(revision).delete(object::name(&revision.metadata), &params).await {
                Err(error) if !is_not_found(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn api(&self, revision: &ControllerRevision) -> Api<ControllerRevision> {
        Api::namespaced(self.client.clone(), object::namespace(&revision.metadata))
    }
}

#[cfg(test)]
mod tests;
