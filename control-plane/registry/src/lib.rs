//! What each kind does beyond its schema: defaults, validation, updates, deletion, printing. Pure functions over JSON.
//!
//! The API server decodes and type-checks an object, then asks the [`Strategy`] of its resource. Facts (messages, field paths, defaults, columns)
//! are those of Kubernetes 1.36: `pkg/apis/*/v1/defaults.go`, `pkg/apis/*/validation`, `pkg/registry/*/strategy.go`, `pkg/printers/internalversion`.

pub mod allocator;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod core;
pub mod duration;
pub mod errors;
pub mod meta;
pub mod metrics;
pub mod names;
pub mod network;
pub mod pod;
pub mod policy;
pub mod rbac;
pub mod runtime_class;
pub mod scheduling;
pub mod storage;
pub mod strategy;
pub mod value;

pub use strategy::{Column, Context, DeleteOptions, Grace, Scope, Strategy, UserInfo};
use xebec_machinery::GroupResource;

const NETWORKING: &str = "networking.k8s.io";
const STORAGE: &str = "storage.k8s.io";

/// The strategy of a resource; one without behaviour of its own gets the generic one.
pub fn strategy(resource: &GroupResource) -> &'static dyn Strategy {
    match (&*resource.group, &*resource.resource) {
        ("", "configmaps") => &core::config_map::ConfigMap,
        ("", "endpoints") => &network::endpoints::Endpoints,
        // One storage for both groups; see [`core::event`].
        ("" | "events.k8s.io", "events") => &core::event::Event,
        ("", "limitranges") => &core::limit_range::LimitRange,
        ("", "namespaces") => &core::namespace::Namespace,
        ("", "nodes") => &core::node::Node,
        ("", "persistentvolumeclaims") => &core::persistent_volume_claim::PersistentVolumeClaim,
        ("", "persistentvolumes") => &core::persistent_volume::PersistentVolume,
        ("", "pods") => &pod::Pod,
        ("", "podtemplates") => &core::pod_template::PodTemplate,
        ("", "replicationcontrollers") => &core::replication_controller::ReplicationController,
        ("", "resourcequotas") => &core::resource_quota::ResourceQuota,
        ("", "secrets") => &core::secret::Secret,
        ("", "serviceaccounts") => &core::service_account::ServiceAccount,
        ("", "services") => &network::service::Service,
        ("apps", "controllerrevisions") => &apps::controller_revision::ControllerRevision,
        ("apps", "daemonsets") => &apps::daemon_set::DaemonSet,
        ("apps", "deployments") => &apps::deployment::Deployment,
        ("apps", "replicasets") => &apps::replica_set::ReplicaSet,
        ("apps", "statefulsets") => &apps::stateful_set::StatefulSet,
        // One storage for both versions; see [`autoscaling::convert`].
        ("autoscaling", "horizontalpodautoscalers") => &autoscaling::HorizontalPodAutoscaler,
        ("batch", "cronjobs") => &batch::cron_job::CronJob,
        ("batch", "jobs") => &batch::job::Job,
        ("certificates.k8s.io", "certificatesigningrequests") => &certificates::CertificateSigningRequest,
        ("coordination.k8s.io", "leases") => &core::lease::Lease,
        ("discovery.k8s.io", "endpointslices") => &network::endpoint_slice::EndpointSlice,
        ("metrics.k8s.io", "nodes") => &metrics::NodeMetrics,
        ("metrics.k8s.io", "pods") => &metrics::PodMetrics,
        (NETWORKING, "ingressclasses") => &network::ingress_class::IngressClass,
        (NETWORKING, "ingresses") => &network::ingress::Ingress,
        (NETWORKING, "ipaddresses") => &network::ip_address::IpAddress,
        (NETWORKING, "networkpolicies") => &network::network_policy::NetworkPolicy,
        (NETWORKING, "servicecidrs") => &network::ip_address::ServiceCidr,
        ("node.k8s.io", "runtimeclasses") => &runtime_class::RuntimeClass,
        ("policy", "poddisruptionbudgets") => &policy::PodDisruptionBudget,
        (rbac::GROUP, "clusterroles") => &rbac::Role(Scope::Cluster),
        (rbac::GROUP, "clusterrolebindings") => &rbac::Binding(Scope::Cluster),
        (rbac::GROUP, "roles") => &rbac::Role(Scope::Namespaced),
        (rbac::GROUP, "rolebindings") => &rbac::Binding(Scope::Namespaced),
        ("scheduling.k8s.io", "priorityclasses") => &scheduling::PriorityClass,
        (STORAGE, "csidrivers") => &storage::csi::CsiDriver,
        (STORAGE, "csinodes") => &storage::csi::CsiNode,
        (STORAGE, "csistoragecapacities") => &storage::csi::CsiStorageCapacity,
        (STORAGE, "storageclasses") => &storage::class::StorageClass,
        (STORAGE, "volumeattachments") => &storage::volume_attachment::VolumeAttachment,
        (STORAGE, "volumeattributesclasses") => &storage::class::VolumeAttributesClass,
        _ => &strategy::Generic,
    }
}

#[cfg(test)]
mod tests;
