//! The controllers, one module for each, under upstream's names.
//!
//! Each is level-triggered and in two halves: a pure `step` from what is observed to what should be
//! written, and a shell that writes it. All see the cluster only through `xebec_client`.

pub mod certificates;
pub mod cluster_dns;
pub mod clusterrole_aggregation;
mod control;
pub mod daemonset;
pub mod deployment;
mod discovery;
pub mod endpoints;
pub mod endpointslice;
pub mod endpointslicemirroring;
pub mod garbagecollector;
mod history;
pub mod namespace;
pub mod nodeipam;
pub mod nodelifecycle;
pub mod podgc;
pub mod replicaset;
pub mod root_ca_cert_publisher;
pub mod serviceaccount;
pub mod statefulset;
pub mod tainteviction;
pub mod tokencleaner;

use ipnet::Ipv4Net;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xebec_client::{Client, EventRecorder, Informers};
use xebec_types::core::{Container, Pod};

/// The controllers of one cluster. At most one process may run them at a time:
/// `xebec_client::leader::Elector` sees to that.
pub struct Controllers {
    /// Acts on everything, so it needs `system:masters` or as much. In the server's own process that
    /// gives nothing away: whoever holds this process holds the store.
    pub client: Client,
    /// Shared with the scheduler, so that a kind is held once in the process.
    pub informers: Informers,
    pub config: Config,
}

#[derive(Clone)]
pub struct Config {
    /// Node address blocks are cut from this.
    pub cluster_cidr: Ipv4Net,
    pub node_cidr_mask: u8,
    pub service_cidr: Ipv4Net,
    /// Published in every namespace as `kube-root-ca.crt`.
    pub ca_pem: String,
    /// Without one, certificate requests wait for somebody else.
    pub signer: Option<Arc<dyn CsrSigner>>,
    /// How long a node may stay silent before it counts as NotReady.
    pub node_monitor_grace_period: Duration,
    /// Terminated pods kept before the oldest are deleted; 0 keeps all.
    pub terminated_pod_gc_threshold: usize,
    /// As kube-controller-manager's `--controllers`: `*`, `name`, `-name`.
    pub controllers: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster_cidr: Ipv4Net::new_assert([10, 244, 0, 0].into(), 16),
            node_cidr_mask: 24,
            service_cidr: Ipv4Net::new_assert([10, 96, 0, 0].into(), 16),
            ca_pem: String::new(),
            signer: None,
            node_monitor_grace_period: Duration::from_secs(40),
            terminated_pod_gc_threshold: 12_500,
            controllers: vec!["*".into()],
        }
    }
}

/// Signs certificate requests with the cluster CA.
#[async_trait::async_trait]
pub trait CsrSigner: Send + Sync + 'static {
    /// `csr_pem` as requested; `signer` is the signer's name and decides usages and life. Returns
    /// the certificate chain as PEM, or why there is none.
    async fn sign(&self, csr_pem: &str, signer: &str) -> Result<String, String>;

    /// As [`sign`](Self::sign), for a life of at most so many seconds if the requester asked so.
    async fn sign_for(&self, csr_pem: &str, signer: &str, expiration_seconds: Option<i32>) -> Result<String, String> {
        let _ = expiration_seconds;
        self.sign(csr_pem, signer).await
    }
}

/// What every controller is given.
#[derive(Clone)]
pub(crate) struct Context {
    pub client: Client,
    pub informers: Informers,
    pub config: Arc<Config>,
}

impl Context {
    pub(crate) fn recorder(&self, component: &str) -> EventRecorder {
        EventRecorder::new(self.client.clone(), component, "")
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type Start = fn(Context, CancellationToken) -> Task;

macro_rules! controllers {
    ($($name:literal => $module:ident :: $run:ident),* $(,)?) => {
        &[$(($name, |context, stop| Box::pin($module::$run(context, stop)))),*]
    };
}

/// Every controller by the name that `--controllers` takes.
const ALL: &[(&str, Start)] = controllers! {
    "deployment" => deployment::run,
    "replicaset" => replicaset::run,
    "replicationcontroller" => replicaset::run_replication,
    "statefulset" => statefulset::run,
    "daemonset" => daemonset::run,
    "endpointslice" => endpointslice::run,
    "endpointslicemirroring" => endpointslicemirroring::run,
    "endpoints" => endpoints::run,
    "serviceaccount" => serviceaccount::run,
    "root-ca-certificate-publisher" => root_ca_cert_publisher::run,
    "nodeipam" => nodeipam::run,
    "node-lifecycle" => nodelifecycle::run,
    "taint-eviction-controller" => tainteviction::run,
    "podgc" => podgc::run,
    "namespace" => namespace::run,
    "garbage-collector" => garbagecollector::run,
    "csr" => certificates::run,
    "clusterrole-aggregation" => clusterrole_aggregation::run,
    "tokencleaner" => tokencleaner::run,
    "cluster-dns" => cluster_dns::run,
};

/// The names that `--controllers` takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

/// Runs all controllers until `stop`. They wait by themselves for a server that is not there yet.
pub async fn run(controllers: Controllers, stop: CancellationToken) {
    let Controllers { client, informers, config } = controllers;
    informers.trim(trim_pod);
    let context = Context { client, informers, config: Arc::new(config) };
    let mut tasks = JoinSet::new();
    for (name, start) in ALL {
        if is_enabled(&context.config.controllers, name) {
            tasks.spawn(start(context.clone(), stop.child_token()));
        }
    }
    loop {
        // Steps are idempotent: what a stop cuts off is done by the next start.
        let finished = tokio::select! {
            () = stop.cancelled() => return tasks.shutdown().await,
            finished = tasks.join_next() => finished,
        };
        match finished {
            Some(Err(error)) if error.is_panic() => {
                // The others cannot vouch for the cluster without it.
                stop.cancel();
                std::panic::resume_unwind(error.into_panic());
            }
            Some(_) => {}
            None => return stop.cancelled().await,
        }
    }
}

/// What neither a controller nor the scheduler reads is the larger half of a pod. Controllers patch
/// pods and never write them whole.
fn trim_pod(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    spec.volumes = None;
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        *container = Container {
            name: std::mem::take(&mut container.name),
            image: container.image.take(),
            ports: container.ports.take(),
            resources: container.resources.take(),
            restart_policy: container.restart_policy.take(),
            ..Container::default()
        };
    }
}

fn is_enabled(wanted: &[String], name: &str) -> bool {
    let is_off = |w: &String| w.strip_prefix('-') == Some(name);
    !wanted.iter().any(is_off) && wanted.iter().any(|w| w == "*" || w == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wanted: &[&str], expected: bool) {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        assert_eq!(is_enabled(&wanted, "podgc"), expected, "{wanted:?}");
    }

    #[test]
    fn controllers_are_chosen_as_upstream_chooses_them() {
        check(&["*"], true);
        check(&["*", "-podgc"], false);
        check(&["podgc"], true);
        check(&["deployment"], false);
        check(&[], false);
    }
}
