//! Services that the controller compiled become entries of the datapath's maps.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Mutex;
use xebec_abi::lb::{frontend_flag, scope};
use xebec_datapath::{Datapath, Error, TableSize};
use xebec_services::{
    Algorithm, Backend, Change, Forwarding, Frontend, FrontendKey, FrontendKind, HealthCheck, Programmed, Protocol,
    Scope, ServicePort, Sink, SinkError, TrafficPolicy,
};

use crate::health::HealthServers;

pub struct DatapathSink {
    datapath: Arc<Datapath>,
    /// Of Maglev tables.
    table_size: TableSize,
    health: Mutex<HealthServers>,
}

impl DatapathSink {
    pub fn new(datapath: Arc<Datapath>) -> Self {
        let table_size = datapath.config().load_balancer.maglev_table_size;
        Self { datapath, table_size, health: Mutex::default() }
    }

    async fn put(&self, services: Vec<xebec_datapath::Service>) -> Result<(), SinkError> {
        match self.datapath.put_services(&services) {
            Err(Error::Full { map, limit }) if self.datapath.config().capacity.exceeds(map, limit) => {}
            done => return Ok(done.map(drop)?),
        }
        let datapath = Arc::clone(&self.datapath);
        Ok(tokio::task::spawn_blocking(move || datapath.put_services_growing(&services).map(drop)).await??)
    }
}

#[async_trait::async_trait]
impl Sink for DatapathSink {
    async fn programmed(&self) -> Result<Vec<Programmed>, SinkError> {
        Ok(self.datapath.frontends()?.iter().filter_map(|kernel| programmed(kernel, self.table_size)).collect())
    }

    async fn apply(&self, changes: &[Change]) -> Vec<(usize, SinkError)> {
        // One call for all of them is a few system calls; only when it fails is it told which one it was.
        let puts: Option<Vec<_>> =
            changes.iter().map(|change| put(change).map(|port| service(port, self.table_size))).collect();
        if let Some(services) = puts
            && self.put(services).await.is_ok()
        {
            return Vec::new();
        }
        let mut failed = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            let done = match change {
                Change::Put(port) => self.put(vec![service(port, self.table_size)]).await,
                Change::Remove(key) => self.datapath.remove_frontend(&frontend_key(key)).map(drop).map_err(Into::into),
            };
            failed.extend(done.err().map(|error| (index, error)));
        }
        failed
    }

    async fn health_checks(&self, checks: Vec<HealthCheck>, addresses: &[IpAddr]) {
        self.health.lock().await.set(checks, addresses).await;
    }
}

fn put(change: &Change) -> Option<&ServicePort> {
    match change {
        Change::Put(port) => Some(port),
        Change::Remove(_) => None,
    }
}

fn service(port: &ServicePort, table_size: TableSize) -> xebec_datapath::Service {
    let policy = match port.id.policy {
        TrafficPolicy::Cluster => 0,
        TrafficPolicy::Local => frontend_flag::LOCAL_ONLY,
    };
    let forwarding = match port.forwarding {
        Forwarding::Snat => 0,
        Forwarding::Dsr => frontend_flag::DSR,
    };
    let limited = if port.source_ranges.is_empty() { 0 } else { frontend_flag::SOURCE_RANGES };
    let kernel = |frontend| kernel_frontend(frontend, policy | forwarding, limited);
    let frontends = port.frontends.iter().map(kernel).collect();
    let backends = port.backends.iter().map(|backend| {
        let Backend { addr, port, local, terminating, weight } = *backend;
        xebec_datapath::Backend { addr, port, local, terminating, weight }
    });
    let (backends, source_ranges) = (backends.collect(), port.source_ranges.clone());
    let algorithm = match port.algorithm {
        Algorithm::Random => xebec_datapath::Algorithm::Random,
        Algorithm::Maglev => xebec_datapath::Algorithm::Maglev(table_size),
    };
    xebec_datapath::Service { frontends, backends, affinity: port.affinity, source_ranges, algorithm }
}

/// `common` is what all of the service's have, `limited` what load balancers' have besides, if it has source ranges.
fn kernel_frontend(frontend: &Frontend, common: u16, limited: u16) -> xebec_datapath::Frontend {
    let kind = match frontend.kind {
        FrontendKind::ClusterIp => 0,
        FrontendKind::NodePort => frontend_flag::NODE_PORT,
        FrontendKind::LoadBalancer => frontend_flag::LOAD_BALANCER | limited,
        FrontendKind::ExternalIp => frontend_flag::EXTERNAL_IP,
        FrontendKind::HostPort => frontend_flag::HOST_PORT,
    };
    xebec_datapath::Frontend { key: frontend_key(&frontend.key), flags: common | kind }
}

fn frontend_key(key: &FrontendKey) -> xebec_datapath::FrontendKey {
    let (addr, port, proto) = (key.addr, key.port, key.protocol.number());
    let scope = match key.scope {
        Scope::Internal => scope::INTERNAL,
        Scope::External => scope::EXTERNAL,
    };
    xebec_datapath::FrontendKey { addr, port, proto, scope }
}

/// `None` for a protocol that no Service has.
fn programmed(kernel: &xebec_datapath::Programmed, table_size: TableSize) -> Option<Programmed> {
    let key = &kernel.frontend.key;
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| p.number() == key.proto)?;
    let flags = kernel.frontend.flags;
    let kind = match flags {
        flags if flags & frontend_flag::NODE_PORT != 0 => FrontendKind::NodePort,
        flags if flags & frontend_flag::LOAD_BALANCER != 0 => FrontendKind::LoadBalancer,
        flags if flags & frontend_flag::EXTERNAL_IP != 0 => FrontendKind::ExternalIp,
        flags if flags & frontend_flag::HOST_PORT != 0 => FrontendKind::HostPort,
        _ => FrontendKind::ClusterIp,
    };
    let policy = if flags & frontend_flag::LOCAL_ONLY == 0 { TrafficPolicy::Cluster } else { TrafficPolicy::Local };
    let backend = |backend: &xebec_datapath::Backend| Backend {
        addr: backend.addr,
        port: backend.port,
        local: backend.local,
        terminating: backend.terminating,
        weight: backend.weight,
    };
    let mut backends: Vec<_> = kernel.backends.iter().map(backend).collect();
    backends.sort_unstable();
    let scope = if key.scope == scope::EXTERNAL { Scope::External } else { Scope::Internal };
    let key = FrontendKey { addr: key.addr, port: key.port, protocol, scope };
    let source_ranges = kernel.source_ranges.clone();
    // A table of another size is to be written again.
    let is_maglev = kernel.algorithm == xebec_datapath::Algorithm::Maglev(table_size);
    let algorithm = if is_maglev { Algorithm::Maglev } else { Algorithm::Random };
    let forwarding = if flags & frontend_flag::DSR == 0 { Forwarding::Snat } else { Forwarding::Dsr };
    let (frontend, affinity) = (Frontend { key, kind }, kernel.affinity);
    Some(Programmed { frontend, policy, backends, affinity, source_ranges, algorithm, forwarding })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use xebec_services::{PortId, ServiceKey};

    use super::*;

    /// What is written reads back as what was wanted: otherwise every restart would write everything again.
    #[track_caller]
    fn check(kind: FrontendKind, scope: Scope, policy: TrafficPolicy, affinity: Option<Duration>, ranges: &[&str]) {
        for (algorithm, forwarding) in [(Algorithm::Random, Forwarding::Dsr), (Algorithm::Maglev, Forwarding::Snat)] {
            let case = (kind, scope, policy, affinity, algorithm, forwarding);
            check_at("10.96.0.10", ["10.244.0.1", "10.244.0.2"], ranges, case);
            check_at("fd96::10", ["fd10::1", "fd10::2"], &[], case);
        }
    }

    type Case = (FrontendKind, Scope, TrafficPolicy, Option<Duration>, Algorithm, Forwarding);

    #[track_caller]
    fn check_at(vip: &str, pods: [&str; 2], ranges: &[&str], case: Case) {
        let (kind, scope, policy, affinity, algorithm, forwarding) = case;
        let addr: IpAddr = vip.parse().expect("an address");
        let key = FrontendKey { addr, port: 53, protocol: Protocol::Udp, scope };
        let backend = |n: usize, local| Backend {
            addr: pods[n].parse().expect("an address"),
            port: 53,
            local,
            terminating: false,
            weight: u8::from(local),
        };
        let port = ServicePort {
            id: PortId {
                service: ServiceKey::new("kube-system", "kube-dns"),
                port: "dns".into(),
                protocol: Protocol::Udp,
                policy,
            },
            frontends: vec![Frontend { key, kind }],
            backends: vec![backend(0, false), backend(1, true)],
            affinity,
            source_ranges: ranges.iter().map(|range| range.parse().expect("a range")).collect(),
            algorithm,
            forwarding,
        };
        let size = TableSize::default();
        let kernel = service(&port, size);
        let mut backends = kernel.backends.clone();
        backends.sort_by_key(|backend| !backend.local);
        let read = xebec_datapath::Programmed {
            frontend: kernel.frontends[0],
            service: xebec_datapath::ServiceId(1),
            affinity: kernel.affinity,
            source_ranges: kernel.source_ranges.clone(),
            algorithm: kernel.algorithm,
            backends,
        };
        assert_eq!(programmed(&read, size), port.programmed().next().map(|(_, programmed)| programmed));
    }

    #[test]
    fn services_read_back_as_they_were_written() {
        let (inside, outside) = (Scope::Internal, Scope::External);
        check(FrontendKind::ClusterIp, inside, TrafficPolicy::Cluster, None, &[]);
        check(FrontendKind::ClusterIp, inside, TrafficPolicy::Local, Some(Duration::from_secs(10800)), &[]);
        check(FrontendKind::NodePort, outside, TrafficPolicy::Cluster, None, &[]);
        check(FrontendKind::LoadBalancer, outside, TrafficPolicy::Local, None, &["10.0.0.0/8", "192.0.2.7/32"]);
        check(FrontendKind::ExternalIp, inside, TrafficPolicy::Cluster, None, &[]);
        check(FrontendKind::HostPort, outside, TrafficPolicy::Local, None, &[]);
    }
}
