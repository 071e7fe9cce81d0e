//! Services that the nodes have no room for are refused. Not upstream's: its proxies have no such limits, or do not say.

use std::sync::Arc;

use async_trait::async_trait;
use xebec_machinery::Status;

use super::{Attributes, Operation, Plugin, Reader};
use crate::service_capacity::ServiceCapacity as Capacity;

pub struct ServiceCapacity(pub Arc<Capacity>);

#[async_trait]
impl Plugin for ServiceCapacity {
    fn name(&self) -> &'static str {
        "ServiceCapacity"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, attributes: &Attributes<'_>, _reader: &dyn Reader) -> Result<(), Status> {
        if !attributes.is("", "services") {
            return Ok(());
        }
        let fits = self.0.check(&attributes.object, attributes.old_object);
        fits.map_err(|why| Status::forbidden(&attributes.resource.group_resource(), attributes.name, why))
    }
}
