//! Hands out cluster addresses and node ports to Services.
//!
//! What is taken is rebuilt from the watch cache at start. A number is marked before the object is stored and given
//! back if that fails, so two requests never store the same one.

use std::net::Ipv4Addr;

use parking_lot::Mutex;
use rand::Rng;
use serde_json::{Value, json};
use xebec_machinery::field::{Error, Path};
use xebec_machinery::{Status, object};
use xebec_registry::allocator::{Ipv4Range, NodePorts, Refused};

use crate::config::Config;
use crate::kinds::Resource;

pub struct ServiceAllocator(Mutex<Ranges>);

struct Ranges {
    ips: Ipv4Range,
    ports: NodePorts,
}

/// Numbers that a Service holds.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Held {
    ip: Option<Ipv4Addr>,
    ports: Vec<i64>,
}

/// Numbers taken for a write that is not yet stored.
pub struct Lease<'a> {
    allocator: &'a ServiceAllocator,
    taken: Held,
    /// To give back once the write is stored.
    freed: Held,
}

impl Lease<'_> {
    /// The write is stored.
    pub fn keep(mut self) {
        self.taken = Held::default();
        let freed = std::mem::take(&mut self.freed);
        self.allocator.give_back(&freed);
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.allocator.give_back(&self.taken);
    }
}

impl ServiceAllocator {
    pub fn new(config: &Config) -> Self {
        let ips = Ipv4Range::new(config.service_cluster_ip_range);
        Self(Mutex::new(Ranges { ips, ports: NodePorts::new(config.service_node_port_range.clone()) }))
    }

    /// Marks what an existing Service holds; says what it could not mark.
    pub fn restore(&self, service: &Value) -> Result<(), String> {
        let held = held(service);
        let mut ranges = self.0.lock();
        let mut problems = Vec::new();
        if let Some(ip) = held.ip {
            if let Err(e) = ranges.ips.allocate(ip) {
                problems.push(format!("clusterIP {ip}: {e:?}"));
            }
        }
        for port in held.ports {
            if let Err(e) = ranges.ports.allocate(port) {
                problems.push(format!("nodePort {port}: {e:?}"));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join(", ")) }
    }

    pub fn nothing(&self) -> Lease<'_> {
        Lease { allocator: self, taken: Held::default(), freed: Held::default() }
    }

    /// Fills in what a Service to be created needs.
    pub fn for_create(&self, resource: &Resource, service: &mut Value, _dry_run: bool) -> Result<Lease<'_>, Status> {
        if !resource.is("", "services") {
            return Ok(self.nothing());
        }
        self.allocate(resource, service, &Held::default())
    }

    pub fn for_update(&self, resource: &Resource, new: &mut Value, old: &Value) -> Result<Lease<'_>, Status> {
        if !resource.is("", "services") {
            return Ok(self.nothing());
        }
        carry_over(new, old);
        self.allocate(resource, new, &held(old))
    }

    /// The Service is gone.
    pub fn release(&self, resource: &Resource, service: &Value) {
        if resource.is("", "services") {
            self.give_back(&held(service));
        }
    }

    fn give_back(&self, held: &Held) {
        if *held == Held::default() {
            return;
        }
        let mut ranges = self.0.lock();
        if let Some(ip) = held.ip {
            ranges.ips.release(ip);
        }
        held.ports.iter().for_each(|&port| ranges.ports.release(port));
    }

    fn allocate(&self, resource: &Resource, service: &mut Value, before: &Held) -> Result<Lease<'_>, Status> {
        let mut lease = self.nothing();
        let mut errors = Vec::new();
        {
            let mut ranges = self.0.lock();
            if needs_ip(service) {
                if let Err(error) = ranges.take_ip(service, before, &mut lease.taken) {
                    errors.push(error);
                }
            }
            if errors.is_empty() && needs_ports(service) {
                ranges.take_ports(service, before, &mut lease.taken, &mut errors);
            }
        }
        if !errors.is_empty() {
            return Err(Status::invalid(&resource.gk, object::name(service), errors));
        }
        let after = held(service);
        lease.freed.ip = before.ip.filter(|_| after.ip != before.ip);
        lease.freed.ports = before.ports.iter().filter(|p| !after.ports.contains(p)).copied().collect();
        Ok(lease)
    }
}

impl Ranges {
    fn take_ip(&mut self, service: &mut Value, before: &Held, taken: &mut Held) -> Result<(), Error> {
        let path = Path::new("spec.clusterIPs");
        let asked = service.pointer("/spec/clusterIP").and_then(Value::as_str).unwrap_or("").to_owned();
        let ip = if asked.is_empty() {
            let next = self.ips.allocate_next(rand::rng().random());
            next.map_err(|_| Error::internal(&path, "failed to allocate a serviceIP: range is full"))?
        } else {
            // Validation reports what is not an address.
            let Ok(ip) = asked.parse::<Ipv4Addr>() else { return Ok(()) };
            if before.ip == Some(ip) {
                return Ok(());
            }
            let range = self.ips.net();
            self.ips.allocate(ip).map_err(|refused| {
                let why = match refused {
                    Refused::NotInRange => format!(
                        "the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}"
                    ),
                    Refused::Allocated | Refused::Full => "provided IP is already allocated".to_owned(),
                };
                Error::invalid(&path, json!([asked]), format!("failed to allocate IP {ip}: {why}"))
            })?;
            ip
        };
        taken.ip = Some(ip);
        let spec = object::ensure_map(service, "spec");
        spec.insert("clusterIP".into(), ip.to_string().into());
        spec.insert("clusterIPs".into(), json!([ip.to_string()]));
        Ok(())
    }

    fn take_ports(&mut self, service: &mut Value, before: &Held, taken: &mut Held, errors: &mut Vec<Error>) {
        let range = self.ports.ports().clone();
        // One number may serve several protocols of the same Service.
        let mut own: Vec<i64> = Vec::new();
        let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
        for (index, port) in ports.into_iter().flatten().enumerate() {
            let path = Path::new("spec").child("ports").index(index).child("nodePort");
            let asked = port.get("nodePort").and_then(Value::as_i64).unwrap_or(0);
            if asked == 0 {
                match self.ports.allocate_next(rand::rng().random()) {
                    Ok(number) => {
                        port["nodePort"] = number.into();
                        taken.ports.push(number);
                        own.push(number);
                    }
                    Err(_) => errors.push(Error::internal(&path, "failed to allocate a nodePort: range is full")),
                }
                continue;
            }
            if own.contains(&asked) || before.ports.contains(&asked) {
                own.push(asked);
                continue;
            }
            match self.ports.allocate(asked) {
                Ok(()) => {
                    taken.ports.push(asked);
                    own.push(asked);
                }
                Err(Refused::NotInRange) => {
                    let (low, high) = (range.start(), range.end());
                    let why = format!("provided port is not in the valid range. The range of valid ports is {low}-{high}");
                    errors.push(Error::invalid(&path, asked, why));
                }
                Err(_) => errors.push(Error::invalid(&path, asked, "provided port is already allocated")),
            }
        }
    }
}

fn service_type(service: &Value) -> &str {
    service.pointer("/spec/type").and_then(Value::as_str).unwrap_or("ClusterIP")
}

fn needs_ip(service: &Value) -> bool {
    service_type(service) != "ExternalName"
        && service.pointer("/spec/clusterIP").and_then(Value::as_str) != Some("None")
        && service.pointer("/spec/clusterIPs/0").and_then(Value::as_str) != Some("None")
}

fn needs_ports(service: &Value) -> bool {
    match service_type(service) {
        "NodePort" => true,
        "LoadBalancer" => {
            service.pointer("/spec/allocateLoadBalancerNodePorts").and_then(Value::as_bool).unwrap_or(true)
        }
        _ => false,
    }
}

fn held(service: &Value) -> Held {
    let ip = service.pointer("/spec/clusterIP").and_then(Value::as_str).and_then(|ip| ip.parse().ok());
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let mut ports: Vec<i64> = ports
        .into_iter()
        .flatten()
        .filter_map(|port| port.get("nodePort")?.as_i64())
        .filter(|&port| port > 0)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    Held { ip: ip.filter(|_| service_type(service) != "ExternalName"), ports }
}

/// What the server handed out stays when an update leaves it out (`patchAllocatedValues`).
fn carry_over(new: &mut Value, old: &Value) {
    if needs_ip(new) && needs_ip(old) && service_type(old) != "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let unset = new.pointer(&format!("/spec/{field}")).is_none_or(|v| v.is_null() || v == "" || v == &json!([]));
            if let Some(value) = old.pointer(&format!("/spec/{field}")).filter(|_| unset) {
                object::ensure_map(new, "spec").insert(field.into(), value.clone());
            }
        }
    }
    if !needs_ports(new) || !needs_ports(old) {
        return;
    }
    let name = |port: &Value| port.get("name").and_then(Value::as_str).unwrap_or("").to_owned();
    let old_ports = old.pointer("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
    let new_ports = new.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    for port in new_ports.into_iter().flatten() {
        if port.get("nodePort").and_then(Value::as_i64).unwrap_or(0) == 0 {
            let same = old_ports.iter().find(|old| name(old) == name(port));
            if let Some(number) = same.and_then(|old| old.get("nodePort")).filter(|n| !n.is_null()) {
                port["nodePort"] = number.clone();
            }
        }
    }
}
