//! Claims grow only if their class allows it (`plugin/pkg/admission/storage/persistentvolume/resize`).

use async_trait::async_trait;
use serde_json::Value;
use xebec_machinery::Status;
use xebec_machinery::quota::quantity;
use xebec_registry::value::{at, boolean, string};

use super::{Attributes, Operation, Plugin, Reader};

pub struct PersistentVolumeClaimResize;

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    async fn validate(&self, attributes: &Attributes<'_>, reader: &dyn Reader) -> Result<(), Status> {
        let Some(old) = attributes.old_object.filter(|_| attributes.is("", "persistentvolumeclaims")) else {
            return Ok(());
        };
        let size = |claim: &Value| quantity(at(claim, "spec.resources.requests.storage"));
        if size(&attributes.object) <= size(old) {
            return Ok(());
        }
        let refuse = |why: &str| Err(Status::forbidden(&attributes.resource.group_resource(), attributes.name, why));
        if string(old, "status.phase") != "Bound" {
            return refuse("Only bound persistent volume claims can be expanded");
        }
        let class =
            reader.get("storage.k8s.io", "storageclasses", "", string(&attributes.object, "spec.storageClassName"));
        if class.is_some_and(|class| boolean(&class, "allowVolumeExpansion")) {
            return Ok(());
        }
        refuse(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        )
    }
}
