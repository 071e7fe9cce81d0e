//! The server's options, named as kube-apiserver's flags.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::pki::Pki;
use crate::service_capacity::ServiceLimits;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthorizationMode {
    Node,
    Rbac,
    AlwaysAllow,
}

impl std::str::FromStr for AuthorizationMode {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "Node" => Ok(Self::Node),
            "RBAC" => Ok(Self::Rbac),
            "AlwaysAllow" => Ok(Self::AlwaysAllow),
            other => Err(format!("unknown authorization mode {other:?}: Node, RBAC or AlwaysAllow")),
        }
    }
}

pub struct Config {
    /// Bound by the caller, perhaps in another network namespace; served over TLS.
    pub listeners: Vec<TcpListener>,
    /// What `default/kubernetes` points to.
    pub advertise_address: IpAddr,
    pub advertise_port: u16,
    pub pki: Arc<Pki>,
    /// One of each family that Services may have, the primary first.
    pub service_cluster_ip_range: Vec<IpNet>,
    pub service_node_port_range: RangeInclusive<u16>,
    pub service_limits: ServiceLimits,
    pub service_account_issuer: String,
    /// Empty: the issuer.
    pub api_audiences: Vec<String>,
    pub anonymous_auth: bool,
    pub authorization_mode: Vec<AuthorizationMode>,
    /// CSV lines: token,user,uid,"group1,group2".
    pub token_auth_file: Option<PathBuf>,
    /// PEM certificates trusted for clients besides the cluster CA.
    pub client_ca_file: Option<PathBuf>,
    /// Created as a Secret in kube-system after start: `[a-z0-9]{6}.[a-z0-9]{16}`.
    pub bootstrap_token: Option<String>,
    /// Written at start and before it expires.
    pub admin_kubeconfig: Option<AdminKubeconfig>,
    pub enable_admission_plugins: Vec<String>,
    pub disable_admission_plugins: Vec<String>,
    pub max_requests_inflight: usize,
    pub max_mutating_requests_inflight: usize,
    pub request_timeout: Duration,
    /// Watches without `timeoutSeconds` end between once and twice this.
    pub min_request_timeout: Duration,
    pub event_ttl: Duration,
    /// Other servers may use the same store.
    pub shared_store: bool,
    /// Ends the server.
    pub shutdown_grace: Duration,
    pub connections: Limits,
}

/// A kubeconfig of `system:masters`.
#[derive(Clone, Debug)]
pub struct AdminKubeconfig {
    pub path: PathBuf,
    /// `https://host:port`, as its users reach the server.
    pub server: String,
}

/// What a client may do to a connection that is not asking for anything.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of all clients together; fewer if the process may not open as many files.
    pub count: usize,
    /// By when TLS must be agreed on.
    pub handshake: Duration,
    /// By when the head of a request must have come over HTTP/1.1, also the next one.
    pub header: Duration,
    /// Without a request, after which a connection ends.
    pub idle: Duration,
    /// By when an answer must have been read.
    pub answer: Duration,
}

impl Default for Limits {
    /// `ReadHeaderTimeout` and `IdleTimeout` as kube-apiserver sets them (`apiserver/pkg/server/secure_serving.go`).
    fn default() -> Self {
        Self {
            count: 20_000,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(32),
            idle: Duration::from_secs(90),
            answer: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// Upstream's defaults around what has none.
    pub fn new(pki: Arc<Pki>, listeners: Vec<TcpListener>) -> Self {
        let address = listeners.first().and_then(|l| l.local_addr().ok());
        Self {
            advertise_address: address.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |a| a.ip()),
            advertise_port: address.map_or(6443, |a| a.port()),
            listeners,
            pki,
            service_cluster_ip_range: vec![IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 0)), 16)],
            service_node_port_range: 30_000..=32_767,
            service_limits: ServiceLimits::NONE,
            service_account_issuer: "https://kubernetes.default.svc.cluster.local".into(),
            api_audiences: Vec::new(),
            anonymous_auth: true,
            authorization_mode: vec![AuthorizationMode::Node, AuthorizationMode::Rbac],
            token_auth_file: None,
            client_ca_file: None,
            bootstrap_token: None,
            admin_kubeconfig: None,
            enable_admission_plugins: Vec::new(),
            disable_admission_plugins: Vec::new(),
            max_requests_inflight: 400,
            max_mutating_requests_inflight: 200,
            request_timeout: Duration::from_secs(60),
            min_request_timeout: Duration::from_secs(1800),
            event_ttl: Duration::from_secs(3600),
            shared_store: false,
            shutdown_grace: Duration::from_secs(5),
            connections: Limits::default(),
        }
    }

    /// What tokens must be meant for.
    pub fn audiences(&self) -> Vec<String> {
        if self.api_audiences.is_empty() {
            vec![self.service_account_issuer.clone()]
        } else {
            self.api_audiences.clone()
        }
    }
}
