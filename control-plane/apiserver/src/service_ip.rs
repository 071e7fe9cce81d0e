//! Hands out cluster addresses and node ports to Services.
//!
//! What is taken is rebuilt from the watch cache at start. A number is marked before the object is stored and given
//! back if that fails, so two requests never store the same one.

use parking_lot::Mutex;
use rand::Rng;
use serde_json::Value;
use xebec_machinery::{Status, object};
use xebec_registry::allocator::{Ipv4Range, NodePorts};
use xebec_registry::network::service::allocation::{Allocation, Allocators};

use crate::config::Config;
use crate::kinds::Resource;

pub struct ServiceAllocator(Mutex<Allocators>);

/// Numbers taken for a write that is not yet stored; dropped, they are free again.
pub struct Lease<'a> {
    allocator: &'a ServiceAllocator,
    allocation: Option<Allocation>,
}

impl Lease<'_> {
    /// The write is stored.
    pub fn keep(mut self) {
        if let Some(allocation) = self.allocation.take() {
            self.allocator.0.lock().commit(allocation);
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(allocation) = self.allocation.take() {
            self.allocator.0.lock().abort(allocation);
        }
    }
}

impl ServiceAllocator {
    pub fn new(config: &Config) -> Self {
        Self(Mutex::new(Allocators {
            cluster_ips: Ipv4Range::new(config.service_cluster_ip_range),
            node_ports: NodePorts::new(config.service_node_port_range.clone()),
        }))
    }

    /// Marks what an existing Service holds; says what it could not mark.
    pub fn restore(&self, service: &Value) -> Result<(), String> {
        let problems = self.0.lock().occupy(service);
        if problems.is_empty() { Ok(()) } else { Err(problems.join(", ")) }
    }

    pub fn nothing(&self) -> Lease<'_> {
        Lease { allocator: self, allocation: None }
    }

    /// Fills in what a Service to be created needs.
    pub fn for_create(&self, resource: &Resource, service: &mut Value, _dry_run: bool) -> Result<Lease<'_>, Status> {
        self.allocate(resource, service, None)
    }

    pub fn for_update(&self, resource: &Resource, new: &mut Value, old: &Value) -> Result<Lease<'_>, Status> {
        self.allocate(resource, new, Some(old))
    }

    /// The Service is gone.
    pub fn release(&self, resource: &Resource, service: &Value) {
        if resource.is("", "services") {
            self.0.lock().release(service);
        }
    }

    fn allocate(&self, resource: &Resource, new: &mut Value, old: Option<&Value>) -> Result<Lease<'_>, Status> {
        if !resource.is("", "services") {
            return Ok(self.nothing());
        }
        let random = rand::rng().random();
        let allocation = self.0.lock().allocate(new, old, random);
        let allocation = allocation.map_err(|errors| Status::invalid(&resource.gk, object::name(new), errors))?;
        Ok(Lease { allocator: self, allocation: Some(allocation) })
    }
}
