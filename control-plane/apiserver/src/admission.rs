//! Admission: what may change or refuse a write after it was authorized and before it is stored.

use async_trait::async_trait;
use serde_json::Value;
use xebec_machinery::{GroupVersionKind, GroupVersionResource, Status};

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

impl Chain {
    /// `enabled` adds to the plugins that are on by default, `disabled` takes away.
    pub fn new(plugins: Vec<Box<dyn Plugin>>, disabled: &[String]) -> Self {
        Self(plugins.into_iter().filter(|p| !disabled.iter().any(|d| d == p.name())).collect())
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

mod default_toleration_seconds;
mod namespace_lifecycle;
mod node_restriction;
mod priority;
mod service_account;
mod taint_nodes_by_condition;

/// Every plugin, in upstream's order (`AllOrderedPlugins`).
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(namespace_lifecycle::NamespaceLifecycle),
        Box::new(service_account::ServiceAccount),
        Box::new(node_restriction::NodeRestriction),
        Box::new(taint_nodes_by_condition::TaintNodesByCondition),
        Box::new(priority::Priority),
        Box::new(default_toleration_seconds::DefaultTolerationSeconds),
    ]
}
