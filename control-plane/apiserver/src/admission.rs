//! Admission: what may change or refuse a write after it was authorized and before it is stored.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use time::OffsetDateTime;
use xebec_machinery::{GroupVersionKind, GroupVersionResource, Status};

use crate::service_capacity::ServiceCapacity;
use crate::user::UserInfo;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// What is about to happen.
pub struct Attributes<'a> {
    pub operation: Operation,
    pub resource: &'a GroupVersionResource,
    pub kind: &'a GroupVersionKind,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Empty when a create leaves the name to the server.
    pub name: &'a str,
    pub user: &'a UserInfo,
    pub dry_run: bool,
    pub now: OffsetDateTime,
    /// Null for a delete.
    pub object: Value,
    /// Absent for a create.
    pub old_object: Option<&'a Value>,
    /// Texts for the Warning header.
    pub warnings: Vec<String>,
}

impl Attributes<'_> {
    /// Whether this is about the object itself of `group`/`resource`.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty() && self.resource.group == group && self.resource.resource == resource
    }
}

/// Read access to other objects, from the watch cache.
#[async_trait]
pub trait Reader: Send + Sync {
    /// As the cache has it.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value>;

    /// After waiting for every acknowledged write.
    async fn get_consistent(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status>;

    /// Every object in a namespace; of all namespaces if it is empty.
    async fn list(&self, group: &str, resource: &str, namespace: &str) -> Result<Vec<Value>, Status>;

    /// Stores `object`, of which a plugin changed the status, unless another writer was faster.
    async fn put_status(&self, group: &str, resource: &str, object: &Value) -> Result<Replaced, Status>;
}

/// What became of a status that a plugin wrote.
pub enum Replaced {
    Done,
    /// The object had changed, to this; or it is gone.
    Changed(Option<Value>),
}

/// One admission plugin, named as upstream's.
#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    fn name(&self) -> &'static str;

    fn handles(&self, operation: Operation) -> bool;

    /// May change `attributes.object`.
    async fn admit(&self, _attributes: &mut Attributes<'_>, _reader: &dyn Reader) -> Result<(), Status> {
        Ok(())
    }

    async fn validate(&self, _attributes: &Attributes<'_>, _reader: &dyn Reader) -> Result<(), Status> {
        Ok(())
    }
}

/// The plugins that are on, in upstream's order.
#[derive(Default)]
pub struct Chain(Vec<Box<dyn Plugin>>);

/// Plugins of upstream's that are not built in: those that are off by default there, and those that come with webhooks and policies.
const NOT_BUILT_IN: [&str; 23] = [
    "AlwaysAdmit",
    "AlwaysDeny",
    "AlwaysPullImages",
    "ClusterTrustBundleAttest",
    "DenyServiceExternalIPs",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "ImagePolicyWebhook",
    "LimitPodHardAntiAffinityTopology",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "NodeDeclaredFeatureValidator",
    "OwnerReferencesPermissionEnforcement",
    "PodNodeSelector",
    "PodSecurity",
    "PodTolerationRestriction",
    "PodTopologyLabels",
    "PersistentVolumeLabel",
    "SecurityContextDeny",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
];
/// Checked where the subresource is served.
const ELSEWHERE: [&str; 2] = ["CertificateApproval", "CertificateSigning"];

/// A list of plugins that cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("{flag} plugin {name:?} is unknown")]
    Unknown { flag: &'static str, name: String },
    #[error("enable-admission-plugins plugin {0:?} is not built in")]
    NotBuiltIn(String),
    #[error("enable-admission-plugins and disable-admission-plugins overlap: {0}")]
    Overlap(String),
    #[error("admission plugin {0:?} cannot be disabled")]
    Needed(String),
}

impl Chain {
    /// `enabled` adds to the plugins that are on by default, which are all that are built in; `disabled` takes away.
    ///
    /// # Errors
    /// A name that is not known, not built in, or in both lists.
    pub fn new(plugins: Vec<Box<dyn Plugin>>, enabled: &[String], disabled: &[String]) -> Result<Self, ChainError> {
        let built_in = |name: &str| plugins.iter().any(|plugin| plugin.name() == name) || ELSEWHERE.contains(&name);
        let known = |name: &str| built_in(name) || NOT_BUILT_IN.contains(&name);
        for (flag, names) in [("enable-admission-plugins", enabled), ("disable-admission-plugins", disabled)] {
            if let Some(name) = names.iter().find(|name| !known(name)) {
                return Err(ChainError::Unknown { flag, name: name.clone() });
            }
        }
        if let Some(name) = enabled.iter().find(|name| disabled.contains(name)) {
            return Err(ChainError::Overlap(name.clone()));
        }
        if let Some(name) = enabled.iter().find(|name| !built_in(name)) {
            return Err(ChainError::NotBuiltIn(name.clone()));
        }
        if let Some(name) = disabled.iter().find(|name| ELSEWHERE.contains(&name.as_str())) {
            return Err(ChainError::Needed(name.clone()));
        }
        Ok(Self(plugins.into_iter().filter(|p| !disabled.iter().any(|d| d == p.name())).collect()))
    }

    pub async fn admit(&self, attributes: &mut Attributes<'_>, reader: &dyn Reader) -> Result<(), Status> {
        let operation = attributes.operation;
        for plugin in self.0.iter().filter(|p| p.handles(operation)) {
            plugin.admit(attributes, reader).await?;
        }
        Ok(())
    }

    pub async fn validate(&self, attributes: &Attributes<'_>, reader: &dyn Reader) -> Result<(), Status> {
        for plugin in self.0.iter().filter(|p| p.handles(attributes.operation)) {
            plugin.validate(attributes, reader).await?;
        }
        Ok(())
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|p| p.name()).collect()
    }
}

mod certificate_subject_restriction;
mod default_class;
mod default_toleration_seconds;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod persistent_volume_claim_resize;
mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
mod service_capacity;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;

/// Every plugin, in upstream's order (`AllOrderedPlugins`).
pub fn plugins(capacity: &Arc<ServiceCapacity>) -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(namespace_lifecycle::NamespaceLifecycle),
        Box::new(limit_ranger::LimitRanger),
        Box::new(service_account::ServiceAccount),
        Box::new(node_restriction::NodeRestriction),
        Box::new(taint_nodes_by_condition::TaintNodesByCondition),
        Box::new(priority::Priority),
        Box::new(default_toleration_seconds::DefaultTolerationSeconds),
        Box::new(default_class::DefaultStorageClass),
        Box::new(storage_object_in_use_protection::StorageObjectInUseProtection),
        Box::new(persistent_volume_claim_resize::PersistentVolumeClaimResize),
        Box::new(runtime_class::RuntimeClass),
        Box::new(certificate_subject_restriction::CertificateSubjectRestriction),
        Box::new(default_class::DefaultIngressClass),
        Box::new(service_capacity::ServiceCapacity(capacity.clone())),
        // Last: what is refused above costs nothing.
        Box::<resource_quota::ResourceQuota>::default(),
    ]
}

#[cfg(test)]
mod tests;
