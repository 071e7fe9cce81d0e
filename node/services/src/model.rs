//! The tables, as plain data. Families are not told apart: an address says its own.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::{Algorithm, Forwarding, NodeAddresses};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As in the API; absent is TCP.
    pub fn parse(protocol: Option<&str>) -> Option<Self> {
        match protocol {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// The number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// Which clients a frontend is for: the same address behaves differently for them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    /// Pods and processes of nodes.
    Internal,
    /// Everybody else.
    External,
}

/// What clients dial.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FrontendKey {
    pub addr: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    pub scope: Scope,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FrontendKind {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalIp,
    HostPort,
}

/// The node that the tables are for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Node {
    pub name: String,
    /// Its label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    pub addresses: NodeAddresses,
    /// Of Services that do not say. `None`: no tunnel leads to other nodes, and whatever a Service says, it is
    /// [`Forwarding::Snat`].
    pub forwarding: Option<Forwarding>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Frontend {
    pub key: FrontendKey,
    pub kind: FrontendKind,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Backend {
    pub addr: IpAddr,
    pub port: u16,
    /// On this node.
    pub local: bool,
    /// It serves while it terminates: used only where nothing else is left.
    pub terminating: bool,
    /// Its share of a Maglev table, in comparison with others'; 0 is as 1.
    pub weight: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TrafficPolicy {
    Cluster,
    /// Only backends on this node, even if there are none.
    Local,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ServiceKey {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The API server's own Service.
    pub fn is_api_server(&self) -> bool {
        &*self.namespace == "default" && &*self.name == "kubernetes"
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortId {
    pub service: ServiceKey,
    /// Empty for the unnamed port.
    pub port: Arc<str>,
    pub protocol: Protocol,
    pub policy: TrafficPolicy,
}

/// One port of a Service under one traffic policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    pub id: PortId,
    /// Sorted, never empty.
    pub frontends: Vec<Frontend>,
    /// Sorted, without duplicates. None is a refusal, not an absence.
    pub backends: Vec<Backend>,
    /// Session affinity by client IP, and how long it lasts.
    pub affinity: Option<Duration>,
    /// Who may dial frontends of the kind [`FrontendKind::LoadBalancer`] from outside; sorted, empty is everybody.
    pub source_ranges: Vec<IpNet>,
    /// How clients outside get a backend.
    pub algorithm: Algorithm,
    /// How they reach one on another node.
    pub forwarding: Forwarding,
}

/// A frontend as the datapath has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Programmed {
    pub frontend: Frontend,
    pub policy: TrafficPolicy,
    pub backends: Vec<Backend>,
    pub affinity: Option<Duration>,
    /// Of its service port, whatever the frontend's kind.
    pub source_ranges: Vec<IpNet>,
    /// Of its service port too.
    pub algorithm: Algorithm,
    pub forwarding: Forwarding,
}

/// One step from what is programmed to what should be. Steps of one batch touch different frontends, so that their
/// order does not matter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// All frontends of a service port get these backends, each in one atomic write.
    Put(ServicePort),
    Remove(FrontendKey),
}

impl ServicePort {
    /// What each of its frontends should read back as.
    pub fn programmed(&self) -> impl Iterator<Item = (FrontendKey, Programmed)> + '_ {
        self.frontends.iter().map(|frontend| {
            let programmed = Programmed {
                frontend: *frontend,
                policy: self.id.policy,
                backends: self.backends.clone(),
                affinity: self.affinity,
                source_ranges: self.source_ranges.clone(),
                algorithm: self.algorithm,
                forwarding: self.forwarding,
            };
            (frontend.key, programmed)
        })
    }
}
