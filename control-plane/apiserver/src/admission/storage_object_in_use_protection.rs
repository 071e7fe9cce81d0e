//! Volumes and claims are born with the finalizer that keeps them while they are in use.

use async_trait::async_trait;
use xebec_machinery::{Status, object};

use super::{Attributes, Operation, Plugin, Reader};

pub struct StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, _reader: &dyn Reader) -> Result<(), Status> {
        let finalizer = if attributes.is("", "persistentvolumes") {
            "kubernetes.io/pv-protection"
        } else if attributes.is("", "persistentvolumeclaims") {
            "kubernetes.io/pvc-protection"
        } else {
            return Ok(());
        };
        let mut all: Vec<String> = object::finalizers(&attributes.object).map(str::to_owned).collect();
        if !all.iter().any(|known| known == finalizer) {
            all.push(finalizer.to_owned());
            object::set_finalizers(&mut attributes.object, &all.iter().map(String::as_str).collect::<Vec<_>>());
        }
        Ok(())
    }
}
