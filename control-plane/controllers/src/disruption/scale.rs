//! What the owners of pods ask for.

use crate::Context;
use crate::discovery;
use std::sync::Arc;
use xebec_client::{Client, Error, Informer, is_not_found};
use xebec_types::apps::{Deployment, ReplicaSet, StatefulSet};
use xebec_types::core::ReplicationController;
use xebec_types::{OwnerReference, object};

pub(super) struct Scales {
    client: Client,
    deployments: Arc<Informer<Deployment>>,
    sets: Arc<Informer<ReplicaSet>>,
    stateful: Arc<Informer<StatefulSet>>,
    replication: Arc<Informer<ReplicationController>>,
}

impl Scales {
    pub(super) fn new(context: &Context) -> Self {
        let informers = &context.informers;
        Self {
            client: context.client.clone(),
            deployments: informers.informer(),
            sets: informers.informer(),
            stateful: informers.informer(),
            replication: informers.informer(),
        }
    }

    pub(super) async fn synced(&self) {
        tokio::join!(self.deployments.synced(), self.sets.synced(), self.stateful.synced(), self.replication.synced());
    }

    /// Tells the namespace of every workload that changes.
    pub(super) fn on_change(&self, tell: impl Fn(&str) + Clone + Send + Sync + 'static) {
        let sink = tell.clone();
        self.deployments.on_change(move |change| sink(&change.key().namespace));
        let sink = tell.clone();
        self.sets.on_change(move |change| sink(&change.key().namespace));
        let sink = tell.clone();
        self.stateful.on_change(move |change| sink(&change.key().namespace));
        self.replication.on_change(move |change| tell(&change.key().namespace));
    }

    /// The replicas that an owner asks for; `None` if it is gone or cannot be scaled. What stands above it and speaks for
    /// others too is added to `seen`, and counts once.
    pub(super) async fn of(
        &self,
        namespace: &str,
        owner: &OwnerReference,
        seen: &mut Vec<String>,
    ) -> Result<Option<i32>, Error> {
        let same = |uid: &Option<String>| uid.as_deref() == Some(owner.uid.as_str());
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let replicas = |replicas: Option<i32>| Some(replicas.unwrap_or(1));
        match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => {
                let Some(set) = self.sets.get(namespace, &owner.name).filter(|s| same(&s.metadata.uid)) else {
                    return Ok(None);
                };
                let above = object::controller_of(&set.metadata).filter(|o| o.kind == "Deployment");
                let deployment = above.and_then(|o| self.deployments.get(namespace, &o.name));
                let Some(deployment) = deployment else {
                    return Ok(replicas(set.spec.as_ref().and_then(|s| s.replicas)));
                };
                let uid = object::uid(&deployment.metadata);
                if seen.iter().any(|known| known == uid) {
                    return Ok(Some(0));
                }
                seen.push(uid.to_owned());
                Ok(replicas(deployment.spec.as_ref().and_then(|s| s.replicas)))
            }
            ("apps", "StatefulSet") => {
                let set = self.stateful.get(namespace, &owner.name).filter(|s| same(&s.metadata.uid));
                Ok(set.and_then(|set| replicas(set.spec.as_ref().and_then(|s| s.replicas))))
            }
            ("", "ReplicationController") => {
                let set = self.replication.get(namespace, &owner.name).filter(|s| same(&s.metadata.uid));
                Ok(set.and_then(|set| replicas(set.spec.as_ref().and_then(|s| s.replicas))))
            }
            _ => self.by_subresource(namespace, group, owner).await,
        }
    }

    /// Any other kind, by its scale.
    async fn by_subresource(&self, namespace: &str, group: &str, owner: &OwnerReference) -> Result<Option<i32>, Error> {
        let served = discovery::served(&self.client).await?;
        let Some(kind) = served.iter().find(|k| k.api.group == group && k.api.kind == owner.kind) else {
            return Ok(None);
        };
        match kind.within(&self.client, namespace).get_scale(&owner.name).await {
            Ok(scale) => Ok(scale.spec.and_then(|spec| spec.replicas)),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(Error::Api(status)) if status.code == 405 => Ok(None),
            Err(error) => Err(error),
        }
    }
}
