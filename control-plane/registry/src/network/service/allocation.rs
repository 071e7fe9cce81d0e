//! Addresses and node ports of services, given in one step with their creation or update.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use xebec_machinery::field::{Error, Path};

use super::fields::{is_headless, needs_cluster_ip, needs_health_check_port, needs_node_port, node_port};
use crate::allocator::{Ipv4Range, NodePorts, Refused};
use crate::value::{at, entries, integer, is_set, items, items_mut, set, string, strings};

/// What is taken, by all services of the cluster.
#[derive(Clone, Debug)]
pub struct Allocators {
    pub cluster_ips: Ipv4Range,
    pub node_ports: NodePorts,
}

/// What one write took and, once it is committed, gives back.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[must_use = "commit or abort it"]
pub struct Allocation {
    taken: Held,
    freed: Held,
}

/// An address or a port of the cluster that one Service has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Number {
    Ip(Ipv4Addr),
    Port(i64),
}

/// What a stored Service has.
pub fn numbers(service: &Value) -> Vec<Number> {
    Held::by(service).numbers().collect()
}

impl Allocation {
    /// What the write is the first to have.
    pub fn taken(&self) -> impl Iterator<Item = Number> + '_ {
        self.taken.numbers()
    }

    /// What the write gives up.
    pub fn freed(&self) -> impl Iterator<Item = Number> + '_ {
        self.freed.numbers()
    }
}

#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Held {
    ips: Vec<Ipv4Addr>,
    ports: Vec<i64>,
}

impl Allocators {
    /// Marks what a stored service has: at start, and when another server wrote it. Says what was not free.
    pub fn occupy(&mut self, service: &Value) -> Vec<String> {
        let held = Held::by(service);
        let mut problems = Vec::new();
        for ip in held.ips {
            if let Err(refused) = self.cluster_ips.allocate(ip) {
                problems.push(format!("clusterIP {ip}: {refused:?}"));
            }
        }
        for port in held.ports {
            if let Err(refused) = self.node_ports.allocate(port) {
                problems.push(format!("nodePort {port}: {refused:?}"));
            }
        }
        problems
    }

    /// Another server has it; a number outside of the ranges is nobody's.
    pub fn mark(&mut self, number: Number) {
        let _taken_already = match number {
            Number::Ip(ip) => self.cluster_ips.allocate(ip),
            Number::Port(port) => self.node_ports.allocate(port),
        };
    }

    /// Nobody has it any more.
    pub fn unmark(&mut self, number: Number) {
        match number {
            Number::Ip(ip) => self.cluster_ips.release(ip),
            Number::Port(port) => self.node_ports.release(port),
        }
    }

    /// Frees what a deleted service had.
    pub fn release(&mut self, service: &Value) {
        self.free(&Held::by(service));
    }

    /// Fills in addresses and ports of a validated service; on an error nothing is taken.
    pub fn allocate(&mut self, new: &mut Value, old: Option<&Value>, random: u64) -> Result<Allocation, Vec<Error>> {
        families(new)?;
        let before = old.map(Held::by).unwrap_or_default();
        let mut taken = Held::default();
        let result = self
            .cluster_ip(new, &before, &mut taken, random)
            .and_then(|()| self.ports(new, &before, &mut taken, random));
        if let Err(error) = result {
            self.free(&taken);
            return Err(vec![error]);
        }
        let after = Held::by(new);
        let freed = Held {
            ips: before.ips.into_iter().filter(|ip| !after.ips.contains(ip)).collect(),
            ports: before.ports.into_iter().filter(|port| !after.ports.contains(port)).collect(),
        };
        Ok(Allocation { taken, freed })
    }

    /// The write went through.
    pub fn commit(&mut self, allocation: Allocation) {
        self.free(&allocation.freed);
    }

    /// The write failed, or was a dry run.
    pub fn abort(&mut self, allocation: Allocation) {
        self.free(&allocation.taken);
    }

    fn free(&mut self, held: &Held) {
        held.ips.iter().for_each(|ip| self.cluster_ips.release(*ip));
        held.ports.iter().for_each(|port| self.node_ports.release(*port));
    }

    fn cluster_ip(&mut self, new: &mut Value, before: &Held, taken: &mut Held, random: u64) -> Result<(), Error> {
        if !needs_cluster_ip(new) || is_headless(new) {
            return Ok(());
        }
        let path = Path::new("spec").child("clusterIPs");
        let asked = string(new, "spec.clusterIP").to_owned();
        if asked.is_empty() {
            let ip = self
                .cluster_ips
                .allocate_next(random)
                .map_err(|_| Error::internal(&path, "failed to allocate a serviceIP: range is full"))?;
            taken.ips.push(ip);
            set(new, "spec.clusterIP", ip.to_string());
            set(new, "spec.clusterIPs", json!([ip.to_string()]));
            return Ok(());
        }
        let invalid = |reason: String| {
            Error::invalid(
                &path,
                at(new, "spec.clusterIPs").clone(),
                format!("failed to allocate IP {asked}: {reason}"),
            )
        };
        let net = self.cluster_ips.net();
        let outside =
            || invalid(format!("the provided IP ({asked}) is not in the valid range. The range of valid IPs is {net}"));
        // Validation reports what is not an address.
        let Ok(ip) = asked.parse::<std::net::IpAddr>() else { return Ok(()) };
        let std::net::IpAddr::V4(ip) = ip else { return Err(outside()) };
        if before.ips.contains(&ip) {
            return Ok(());
        }
        match self.cluster_ips.allocate(ip) {
            Ok(()) => taken.ips.push(ip),
            Err(Refused::NotInRange) => return Err(outside()),
            Err(_) => return Err(invalid("provided IP is already allocated".to_owned())),
        }
        Ok(())
    }

    fn ports(&mut self, new: &mut Value, before: &Held, taken: &mut Held, random: u64) -> Result<(), Error> {
        let path = Path::new("spec");
        if needs_node_port(new) {
            // Asked-for ports first, so that a chosen one cannot take them.
            for (index, port) in items(new, "spec.ports").iter().enumerate() {
                let Some(number) = node_port(port) else { continue };
                self.port(number, &path.child("ports").index(index).child("nodePort"), before, taken)?;
            }
            for port in items_mut(new, "spec.ports").filter(|port| node_port(port).is_none()) {
                let number = self.any_port(taken, random)?;
                port["nodePort"] = json!(number);
            }
        }
        if needs_health_check_port(new) {
            match integer(new, "spec.healthCheckNodePort").filter(|number| *number != 0) {
                Some(number) => self.port(number, &path.child("healthCheckNodePort"), before, taken)?,
                None => {
                    let number = self.any_port(taken, random)?;
                    set(new, "spec.healthCheckNodePort", number);
                }
            }
        }
        Ok(())
    }

    fn port(&mut self, number: i64, path: &Path, before: &Held, taken: &mut Held) -> Result<(), Error> {
        // One number may serve two protocols of one service.
        if before.ports.contains(&number) || taken.ports.contains(&number) {
            return Ok(());
        }
        let range = self.node_ports.ports();
        let outside = format!(
            "provided port is not in the valid range. The range of valid ports is {}-{}",
            range.start(),
            range.end()
        );
        match self.node_ports.allocate(number) {
            Ok(()) => taken.ports.push(number),
            Err(Refused::NotInRange) => return Err(Error::invalid(path, number, outside)),
            Err(_) => return Err(Error::invalid(path, number, "provided port is already allocated")),
        }
        Ok(())
    }

    fn any_port(&mut self, taken: &mut Held, random: u64) -> Result<i64, Error> {
        let full =
            |_| Error::internal(&Path::new("spec").child("ports"), "failed to allocate a nodePort: range is full");
        let number = self.node_ports.allocate_next(random).map_err(full)?;
        taken.ports.push(number);
        Ok(number)
    }
}

impl Held {
    fn numbers(&self) -> impl Iterator<Item = Number> + '_ {
        self.ips.iter().copied().map(Number::Ip).chain(self.ports.iter().copied().map(Number::Port))
    }

    fn by(service: &Value) -> Self {
        let ips = strings(service, "spec.clusterIPs").filter_map(|ip| ip.parse().ok()).collect();
        let mut ports: Vec<i64> = items(service, "spec.ports").iter().filter_map(node_port).collect();
        ports.extend(integer(service, "spec.healthCheckNodePort").filter(|number| *number != 0));
        // One number may serve two protocols.
        ports.sort_unstable();
        ports.dedup();
        Self { ips, ports }
    }
}

/// `initIPFamilyFields` of a cluster whose services have IPv4 addresses only.
fn families(service: &mut Value) -> Result<(), Vec<Error>> {
    if !needs_cluster_ip(service) {
        return Ok(());
    }
    let path = Path::new("spec");
    if is_headless(service) && entries(service, "spec.selector").next().is_none() {
        // Endpoints that somebody else manages may be of any family.
        if items(service, "spec.ipFamilies").is_empty() {
            let families = match string(service, "spec.ipFamilyPolicy") {
                "SingleStack" => json!(["IPv4"]),
                _ => json!(["IPv4", "IPv6"]),
            };
            set(service, "spec.ipFamilies", families);
        }
        if !is_set(service, "spec.ipFamilyPolicy") {
            let policy = if items(service, "spec.ipFamilies").len() > 1 { "RequireDualStack" } else { "SingleStack" };
            set(service, "spec.ipFamilyPolicy", policy);
        }
        return Ok(());
    }
    let mut errors = Vec::new();
    if string(service, "spec.ipFamilyPolicy") == "RequireDualStack" || items(service, "spec.clusterIPs").len() > 1 {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(Error::invalid(&path.child("ipFamilyPolicy"), at(service, "spec.ipFamilyPolicy").clone(), detail));
    }
    for (index, family) in strings(service, "spec.ipFamilies").enumerate().filter(|(_, family)| *family != "IPv4") {
        errors.push(Error::invalid(&path.child("ipFamilies").index(index), family, "not configured on this cluster"));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if !is_set(service, "spec.ipFamilyPolicy") {
        set(service, "spec.ipFamilyPolicy", "SingleStack");
    }
    set(service, "spec.ipFamilies", json!(["IPv4"]));
    Ok(())
}

#[cfg(test)]
mod tests;
