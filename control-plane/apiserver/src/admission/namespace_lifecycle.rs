//! Objects are created in namespaces that exist and are not being deleted; the built-in namespaces stay.

use async_trait::async_trait;
use serde_json::Value;
use xebec_machinery::status::{Cause, Details};
use xebec_machinery::{GroupResource, Status, object};

use super::{Attributes, Operation, Plugin, Reader};

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub struct NamespaceLifecycle;

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update | Operation::Delete)
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, reader: &dyn Reader) -> Result<(), Status> {
        let namespaces = GroupResource::new("", "namespaces");
        let of_namespaces = attributes.is("", "namespaces");
        if of_namespaces && attributes.operation == Operation::Delete && IMMORTAL.contains(&attributes.name) {
            return Err(Status::forbidden(&namespaces, attributes.name, "this namespace may not be deleted"));
        }
        let name = attributes.namespace;
        // Reviews that name a namespace without being in it are not stored there.
        let exempt = attributes.resource.group == "authorization.k8s.io";
        if attributes.operation != Operation::Create || name.is_empty() || of_namespaces || exempt {
            return Ok(());
        }
        let namespace = match reader.get("", "namespaces", "", name) {
            Some(namespace) => namespace,
            None => reader
                .get_consistent("", "namespaces", "", name)
                .await?
                .ok_or_else(|| Status::not_found(&namespaces, name))?,
        };
        let phase = namespace.pointer("/status/phase").and_then(Value::as_str);
        if phase != Some("Terminating") && object::deletion_timestamp(&namespace).is_none() {
            return Ok(());
        }
        let resource = attributes.resource.group_resource();
        let message = format!("unable to create new content in namespace {name} because it is being terminated");
        let cause = Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".into(),
        };
        let status = Status::forbidden(&resource, attributes.name, message);
        let details = status.details.as_deref().cloned().unwrap_or_default();
        Err(status.with_details(Details { causes: vec![cause], ..details }))
    }
}
