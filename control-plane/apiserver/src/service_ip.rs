//! Hands out cluster addresses and node ports to Services.
//!
//! Memory knows what is taken, as far as it has heard; the store decides ([`claim`]). A number is marked before the object
//! is made and claimed before the object is stored, so two requests never store the same one, on whichever servers.

mod claim;
mod range;
mod repair;

use ipnet::IpNet;
use parking_lot::Mutex;
use rand::Rng;
use serde_json::Value;
use xebec_machinery::{Status, object};
use xebec_registry::allocator::{ClusterIps, NodePorts};
use xebec_registry::network::service::allocation::{Allocation, Allocators, Number, numbers};
use xebec_store::Store;

use crate::app::{App, store_error};
use crate::config::Config;
use crate::kinds::Resource;
use claim::Claimed;

pub use claim::{ADDRESSES, PORTS};
pub use range::{follow as follow_ranges, load as load_ranges};
pub use repair::{follow, run};

/// How often another server may be faster before the client is told to try again.
const ATTEMPTS_MAX: usize = 16;

pub struct ServiceAllocator(Mutex<Allocators>);

/// Numbers taken for a write that is not yet stored; dropped, they are free again.
pub struct Lease<'a> {
    allocator: &'a ServiceAllocator,
    allocation: Option<Allocation>,
    /// The spec before numbers were filled in.
    asked: Value,
    claimed: Vec<Number>,
}

impl Lease<'_> {
    /// Writes down in the store what `new` takes. What another server was faster to take is replaced by something else,
    /// unless the client asked for it.
    pub async fn claim(
        mut self,
        app: &App,
        resource: &Resource,
        new: &mut Value,
        old: Option<&Value>,
    ) -> Result<Self, Status> {
        let (store, now) = (&*app.store, app.now_rfc3339());
        for _ in 0..ATTEMPTS_MAX {
            let Some(allocation) = &self.allocation else { return Ok(self) };
            let wanted: Vec<_> = allocation.taken().filter(|number| !self.claimed.contains(number)).collect();
            let mut lost = None;
            for number in wanted {
                match claim::take(store, number, new, &now).await.map_err(store_error)? {
                    Claimed::Now => self.claimed.push(number),
                    Claimed::Before => {}
                    Claimed::Taken => lost = Some(number),
                }
            }
            let Some(lost) = lost else { return Ok(self) };
            self.abandon(store, new).await;
            // Marked again, for it was only this write that the allocation was taken back from.
            self.allocator.mark(lost);
            new["spec"] = self.asked.clone();
            let allocator = self.allocator;
            self = allocator.allocate(resource, new, old)?;
        }
        Err(Status::server_timeout(&resource.gr, "allocate", 1))
    }

    /// The write is stored.
    pub async fn keep(mut self, store: &dyn Store, service: &Value) {
        let Some(allocation) = self.allocation.take() else { return };
        self.claimed.clear();
        for number in allocation.freed() {
            give_back(store, number, service).await;
        }
        self.allocator.0.lock().commit(allocation);
    }

    /// The write was refused: what was claimed for it is given back.
    pub async fn abandon(&mut self, store: &dyn Store, service: &Value) {
        for number in std::mem::take(&mut self.claimed) {
            give_back(store, number, service).await;
        }
        if let Some(allocation) = self.allocation.take() {
            self.allocator.0.lock().abort(allocation);
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

/// What cannot be given back now is found by [`repair`].
async fn give_back(store: &dyn Store, number: Number, service: &Value) {
    if let Err(error) = claim::give_back(store, number, service).await {
        tracing::debug!(?number, error = xebec_store::chain(&error), "a number stays claimed for a while");
    }
}

impl ServiceAllocator {
    pub fn new(config: &Config) -> Self {
        Self(Mutex::new(Allocators {
            cluster_ips: ClusterIps::new(&config.service_cluster_ip_range),
            node_ports: NodePorts::new(config.service_node_port_range.clone()),
        }))
    }

    /// Hands out addresses of these networks from here on.
    pub fn set_ranges(&self, nets: &[IpNet]) {
        self.0.lock().cluster_ips.set_ranges(nets);
    }

    /// Whether a number is of a range that is handed out.
    fn is_in_range(&self, number: Number) -> bool {
        let allocators = self.0.lock();
        match number {
            Number::Ip(ip) => allocators.cluster_ips.contains(ip),
            Number::Port(port) => u16::try_from(port).is_ok_and(|port| allocators.node_ports.ports().contains(&port)),
        }
    }

    /// Marks what an existing Service holds; says what it could not mark.
    pub fn restore(&self, service: &Value) -> Result<(), String> {
        let problems = self.0.lock().occupy(service);
        if problems.is_empty() { Ok(()) } else { Err(problems.join(", ")) }
    }

    pub fn nothing(&self) -> Lease<'_> {
        Lease { allocator: self, allocation: None, asked: Value::Null, claimed: Vec::new() }
    }

    /// Fills in what a Service to be created needs.
    pub fn for_create(&self, resource: &Resource, service: &mut Value) -> Result<Lease<'_>, Status> {
        self.allocate(resource, service, None)
    }

    pub fn for_update(&self, resource: &Resource, new: &mut Value, old: &Value) -> Result<Lease<'_>, Status> {
        self.allocate(resource, new, Some(old))
    }

    /// The Service is gone.
    pub async fn release(&self, store: &dyn Store, resource: &Resource, service: &Value) {
        if !resource.is("", "services") {
            return;
        }
        for number in numbers(service) {
            give_back(store, number, service).await;
        }
        self.0.lock().release(service);
    }

    /// Another server's Service has it.
    pub fn mark(&self, number: Number) {
        self.0.lock().mark(number);
    }

    /// No Service has it any more.
    pub fn free(&self, number: Number) {
        self.0.lock().unmark(number);
    }

    /// No Service has any other number any more. One that a write has been given and not claimed yet may be among them: then
    /// the store says to whom it is.
    pub fn retain(&self, keep: impl Fn(Number) -> bool) {
        self.0.lock().retain(keep);
    }

    fn allocate(&self, resource: &Resource, new: &mut Value, old: Option<&Value>) -> Result<Lease<'_>, Status> {
        if !resource.is("", "services") {
            return Ok(self.nothing());
        }
        let random = rand::rng().random();
        let asked = new.get("spec").cloned().unwrap_or_default();
        let allocation = self.0.lock().allocate(new, old, random);
        let allocation = allocation.map_err(|errors| Status::invalid(&resource.gk, object::name(new), errors))?;
        Ok(Lease { allocator: self, allocation: Some(allocation), asked, claimed: Vec::new() })
    }
}
