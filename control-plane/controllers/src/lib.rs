//! The controllers, one module for each, under upstream's names.
//!
//! Each is level-triggered and in two halves: a pure `step` from what is observed to what should be
//! written, and a shell that writes it. All see the cluster only through `xebec_client`.

pub mod certificates;
pub mod cluster_dns;
pub mod clusterrole_aggregation;
mod control;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
mod discovery;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod endpointslicemirroring;
pub mod garbagecollector;
mod history;
pub mod horizontalpodautoscaling;
pub mod job;
pub mod legacy_serviceaccount_token_cleaner;
pub mod namespace;
pub mod nodeipam;
pub mod nodelifecycle;
pub mod persistentvolume;
pub mod podgc;
pub mod replicaset;
pub mod resourceclaim;
pub mod resourcequota;
pub mod root_ca_cert_publisher;
pub mod service_lb;
pub mod serviceaccount;
pub mod serviceaccount_token;
pub mod servicecidrs;
pub mod statefulset;
pub mod tainteviction;
pub mod tokencleaner;
pub mod ttlafterfinished;
pub mod volumeprotection;

use ipnet::IpNet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xebec_client::{Client, EventRecorder, Informers};
use xebec_clock::Clock;
use xebec_types::core::{Container, Pod, ServiceAccount, Volume};
use xebec_types::time::{self, Timestamp};

/// The controllers of one cluster. At most one process may run them at a time:
/// `xebec_client::leader::Elector` sees to that.
pub struct Controllers {
    /// Each controller writes under an account of its own, as with kube-controller-manager's
    /// `--use-service-account-credentials`.
    pub accounts: Accounts,
    /// Shared with the scheduler, so that a kind is held once in the process. It reads as
    /// `system:kube-controller-manager`, which may list and watch everything.
    pub informers: Informers,
    pub config: Config,
}

/// Gives the client of an account in kube-system.
#[derive(Clone)]
pub struct Accounts(Arc<dyn Fn(&'static str) -> Client + Send + Sync>);

impl Accounts {
    pub fn new(client: impl Fn(&'static str) -> Client + Send + Sync + 'static) -> Self {
        Self(Arc::new(client))
    }

    /// The same client for all of them.
    #[must_use]
    pub fn shared(client: Client) -> Self {
        Self::new(move |_| client.clone())
    }

    #[must_use]
    pub fn client(&self, account: &'static str) -> Client {
        (self.0)(account)
    }
}

#[derive(Clone)]
pub struct Config {
    /// Node address blocks are cut from these: one network of each family that pods have, the primary first.
    pub cluster_cidrs: Vec<IpNet>,
    pub node_cidr_mask_ipv4: u8,
    pub node_cidr_mask_ipv6: u8,
    /// As the API server's.
    pub service_cidrs: Vec<IpNet>,
    /// Published in every namespace as `kube-root-ca.crt`.
    pub ca_pem: String,
    /// Without one, certificate requests wait for somebody else.
    pub signer: Option<Arc<dyn CsrSigner>>,
    /// Without one, Secrets of type `kubernetes.io/service-account-token` stay empty.
    pub token_signer: Option<Arc<dyn TokenSigner>>,
    /// How long a token in a Secret may go unused before it is refused, and then before it is deleted.
    pub legacy_service_account_token_clean_up_period: Duration,
    /// How long a node may stay silent before it counts as NotReady.
    pub node_monitor_grace_period: Duration,
    /// Terminated pods kept before the oldest are deleted; 0 keeps all.
    pub terminated_pod_gc_threshold: usize,
    /// Where Services of type LoadBalancer get their addresses; without any they wait for another implementation.
    pub load_balancer_pools: Vec<service_lb::AddressRange>,
    /// As kube-controller-manager's `--controllers`: `*`, `name`, `-name`.
    pub controllers: Vec<String>,
    /// The API server's: what is written is dated by it, and what has a date waits for it.
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster_cidrs: vec![IpNet::new_assert([10, 244, 0, 0].into(), 16)],
            node_cidr_mask_ipv4: 24,
            node_cidr_mask_ipv6: 64,
            service_cidrs: vec![IpNet::new_assert([10, 96, 0, 0].into(), 16)],
            ca_pem: String::new(),
            signer: None,
            token_signer: None,
            legacy_service_account_token_clean_up_period: Duration::from_secs(365 * 86_400),
            node_monitor_grace_period: Duration::from_secs(40),
            terminated_pod_gc_threshold: 12_500,
            load_balancer_pools: Vec::new(),
            controllers: vec!["*".into()],
            clock: Clock::default(),
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

/// Makes the tokens of Secrets of type `kubernetes.io/service-account-token`.
pub trait TokenSigner: Send + Sync + 'static {
    /// A token for the account that is good as long as the Secret holds it. Returns why there is none.
    fn sign(&self, account: &ServiceAccount, secret_name: &str) -> Result<String, String>;
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
        EventRecorder::new(self.client.clone(), component, "", self.config.clock.clone())
    }

    pub(crate) fn now(&self) -> Timestamp {
        time::at(self.config.clock.now())
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type Start = fn(Context, CancellationToken) -> Task;

/// The name that `--controllers` takes, the account in kube-system that the controller acts under, and its start.
struct Row(&'static str, &'static str, Start);

macro_rules! controllers {
    ($($name:literal as $account:literal => $run:path),* $(,)?) => {
        &[$(Row($name, $account, |context, stop| Box::pin($run(context, stop)))),*]
    };
}

/// Every controller. The accounts are upstream's; each has the role `system:controller:<account>` in the API server's
/// bootstrap policy.
const ALL: &[Row] = controllers! {
    "deployment" as "deployment-controller" => deployment::run,
    "replicaset" as "replicaset-controller" => replicaset::run,
    "replicationcontroller" as "replication-controller" => replicaset::run_replication,
    "statefulset" as "statefulset-controller" => statefulset::run,
    "daemonset" as "daemon-set-controller" => daemonset::run,
    "job" as "job-controller" => job::run,
    "cronjob" as "cronjob-controller" => cronjob::run,
    "ttl-after-finished" as "ttl-after-finished-controller" => ttlafterfinished::run,
    "disruption" as "disruption-controller" => disruption::run,
    "resourceclaim-controller" as "resource-claim-controller" => resourceclaim::run,
    "resourcequota" as "resourcequota-controller" => resourcequota::run,
    "endpointslice" as "endpointslice-controller" => endpointslice::run,
    "endpointslicemirroring" as "endpointslicemirroring-controller" => endpointslicemirroring::run,
    "endpoints" as "endpoint-controller" => endpoints::run,
    "serviceaccount" as "service-account-controller" => serviceaccount::run,
    "serviceaccount-token" as "tokens-controller" => serviceaccount_token::run,
    "legacy-serviceaccount-token-cleaner" as "legacy-service-account-token-cleaner" => legacy_serviceaccount_token_cleaner::run,
    "root-ca-certificate-publisher" as "root-ca-cert-publisher" => root_ca_cert_publisher::run,
    "nodeipam" as "node-controller" => nodeipam::run,
    "node-lifecycle" as "node-controller" => nodelifecycle::run,
    "taint-eviction-controller" as "node-controller" => tainteviction::run,
    "podgc" as "pod-garbage-collector" => podgc::run,
    "namespace" as "namespace-controller" => namespace::run,
    "garbage-collector" as "generic-garbage-collector" => garbagecollector::run,
    "csr" as "certificate-controller" => certificates::run,
    "clusterrole-aggregation" as "clusterrole-aggregation-controller" => clusterrole_aggregation::run,
    "tokencleaner" as "token-cleaner" => tokencleaner::run,
    "service-cidr-controller" as "service-cidrs-controller" => servicecidrs::run,
    "service-lb-controller" as "service-controller" => service_lb::run,
    "cluster-dns" as "cluster-dns" => cluster_dns::run,
    "persistentvolume-binder" as "persistent-volume-binder" => persistentvolume::run,
    "pvc-protection" as "pvc-protection-controller" => volumeprotection::run_claims,
    "pv-protection" as "pv-protection-controller" => volumeprotection::run_volumes,
    "horizontalpodautoscaling" as "horizontal-pod-autoscaler" => horizontalpodautoscaling::run,
};

/// The names that `--controllers` takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|Row(name, ..)| *name)
}

/// The accounts in kube-system that the controllers act under.
pub fn accounts() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|Row(_, account, _)| *account)
}

/// Runs all controllers until `stop`. They wait by themselves for a server that is not there yet.
pub async fn run(controllers: Controllers, stop: CancellationToken) {
    let Controllers { accounts, informers, config } = controllers;
    informers.trim(trim_pod);
    let config = Arc::new(config);
    let mut tasks = JoinSet::new();
    for Row(name, account, start) in ALL {
        if is_enabled(&config.controllers, name) {
            let client = accounts.client(account);
            let context = Context { client, informers: informers.clone(), config: Arc::clone(&config) };
            tasks.spawn(start(context, stop.child_token()));
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
    // Claims must not go while pods use them, and must reach where pods go.
    let claimed = |volume: &Volume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some();
    spec.volumes = spec.volumes.take().map(|mut all| {
        all.retain(claimed);
        all
    });
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
