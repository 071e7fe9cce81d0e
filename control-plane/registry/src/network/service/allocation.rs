//! Addresses and node ports of services, given in one step with their creation or update.

use std::net::IpAddr;

use serde_json::{Value, json};
use xebec_machinery::field::{Error, Path};
use xebec_machinery::net::IpFamily;

use super::families;
use super::fields::{is_headless, needs_cluster_ip, needs_health_check_port, needs_node_port, node_port};
use crate::allocator::{ClusterIps, NodePorts, Refused};
use crate::value::{integer, items, items_mut, set, strings};

/// What is taken, by all services of the cluster.
#[derive(Clone, Debug)]
pub struct Allocators {
    pub cluster_ips: ClusterIps,
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
    Ip(IpAddr),
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
    ips: Vec<IpAddr>,
    ports: Vec<i64>,
}

impl Allocators {
    /// Marks what a stored service has: at start, and when another server wrote it. Says what was not free.
    pub fn occupy(&mut self, service: &Value) -> Vec<String> {
        let held = Held::by(service);
        let mut problems = Vec::new();
        for ip in held.ips {
            if let Err(refused) = self.cluster_ips.mark(ip) {
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

    /// Another server has it; a port outside of the range is nobody's.
    pub fn mark(&mut self, number: Number) {
        let _taken_already = match number {
            Number::Ip(ip) => self.cluster_ips.mark(ip),
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

    /// Frees every number that is not to be kept.
    pub fn retain(&mut self, keep: impl Fn(Number) -> bool) {
        self.cluster_ips.retain(|ip| keep(Number::Ip(ip)));
        self.node_ports.retain(|port| keep(Number::Port(port)));
    }

    /// Frees what a deleted service had.
    pub fn release(&mut self, service: &Value) {
        self.free(&Held::by(service));
    }

    /// Fills in addresses and ports of a validated service; on an error nothing is taken.
    pub fn allocate(&mut self, new: &mut Value, old: Option<&Value>, random: u64) -> Result<Allocation, Vec<Error>> {
        families::decide(new, old, &self.cluster_ips)?;
        let before = old.map(Held::by).unwrap_or_default();
        let mut taken = Held::default();
        let result = self
            .cluster_ips(new, &before, &mut taken, random)
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

    /// An address for each of the Service's families, which were decided before.
    fn cluster_ips(&mut self, new: &mut Value, before: &Held, taken: &mut Held, random: u64) -> Result<(), Error> {
        if !needs_cluster_ip(new) || is_headless(new) {
            return Ok(());
        }
        let mut ips: Vec<String> = strings(new, "spec.clusterIPs").map(str::to_owned).collect();
        let families: Vec<IpFamily> = strings(new, "spec.ipFamilies").filter_map(IpFamily::named).collect();
        for (index, family) in families.into_iter().enumerate() {
            match ips.get(index) {
                Some(ip) => self.asked(ip, &ips, before, taken)?,
                None => ips.push(self.any(family, taken, random)?.to_string()),
            }
        }
        set(new, "spec.clusterIP", ips.first().cloned().unwrap_or_default());
        set(new, "spec.clusterIPs", json!(ips));
        Ok(())
    }

    fn any(&mut self, family: IpFamily, taken: &mut Held, random: u64) -> Result<IpAddr, Error> {
        let full = |_| Error::internal(&path(), "failed to allocate a serviceIP: range is full");
        let ip = self.cluster_ips.allocate_next(family, random).map_err(full)?;
        taken.ips.push(ip);
        Ok(ip)
    }

    /// `asked` is one of `all`.
    fn asked(&mut self, asked: &str, all: &[String], before: &Held, taken: &mut Held) -> Result<(), Error> {
        // Validation reports what is not an address.
        let Ok(ip) = asked.parse::<IpAddr>() else { return Ok(()) };
        if before.ips.contains(&ip) {
            return Ok(());
        }
        let reason = match self.cluster_ips.allocate(ip) {
            Ok(()) => {
                taken.ips.push(ip);
                return Ok(());
            }
            Err(Refused::NotInRange) => {
                let ranges = self.cluster_ips.range_text(IpFamily::of(ip));
                format!("the provided IP ({asked}) is not in the valid range. The range of valid IPs is {ranges}")
            }
            Err(_) => "provided IP is already allocated".to_owned(),
        };
        Err(Error::invalid(&path(), json!(all), format!("failed to allocate IP {asked}: {reason}")))
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

fn path() -> Path {
    Path::new("spec").child("clusterIPs")
}

#[cfg(test)]
mod tests;
