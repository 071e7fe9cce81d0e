//! Services and EndpointSlices that the nodes have no room for are refused. Not upstream's: its proxies have no such limits, or
//! do not say.

use std::sync::Arc;

use async_trait::async_trait;
use xebec_machinery::Status;
use xebec_machinery::status::{Cause, Details};

use super::{Attributes, Operation, Plugin, Reader};
use crate::service_capacity::{ServiceCapacity as Capacity, Write};

/// The cause in a refusal's details.
const CAUSE: &str = "DatapathCapacityExceeded";

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
        let write = if attributes.is("", "services") {
            Write::Service(&attributes.object)
        } else if attributes.is("discovery.k8s.io", "endpointslices") {
            Write::Slice(&attributes.object)
        } else {
            return Ok(());
        };
        let fits = self.0.admit(&write, attributes.old_object, attributes.dry_run);
        fits.map_err(|why| {
            let (resource, name) = (attributes.resource.group_resource(), attributes.name);
            // Controllers that are told this try with less.
            let cause = Cause { reason: CAUSE.into(), message: why.clone(), field: String::new() };
            let details = Details { causes: vec![cause], ..Details::of(&resource, name) };
            Status::forbidden(&resource, name, why).with_details(details)
        })
    }
}
