//! Well-known names, as upstream's `k8s.io/api` spells them.

/// Label keys.
pub mod label {
    pub const HOSTNAME: &str = "kubernetes.io/hostname";
    pub const OS: &str = "kubernetes.io/os";
    pub const ARCH: &str = "kubernetes.io/arch";
    pub const TOPOLOGY_ZONE: &str = "topology.kubernetes.io/zone";
    pub const TOPOLOGY_REGION: &str = "topology.kubernetes.io/region";
    pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
    pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
    pub const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
    pub const HEADLESS_SERVICE: &str = "service.kubernetes.io/headless";
    pub const ENDPOINTSLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
    pub const ENDPOINTSLICE_SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
    pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
    pub const CONTROLLER_REVISION_HASH: &str = "controller-revision-hash";
    pub const POD_TEMPLATE_GENERATION: &str = "pod-template-generation";
    /// On a ControllerRevision: the hash of its data.
    pub const REVISION_DATA_HASH: &str = "controller.kubernetes.io/hash";
    pub const POD_INDEX: &str = "apps.kubernetes.io/pod-index";
    pub const STATEFULSET_POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
    pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";
    pub const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
    pub const JOB_COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
    pub const LEGACY_JOB_NAME: &str = "job-name";
    pub const LEGACY_CONTROLLER_UID: &str = "controller-uid";
    pub const EXCLUDE_FROM_LOAD_BALANCERS: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
}

/// Annotation keys.
pub mod annotation {
    /// On a Service: how nodes choose the backend of a new flow from outside, `random` or `maglev`.
    pub const LOAD_BALANCING_ALGORITHM: &str = "xebec.io/load-balancing-algorithm";
    /// On a Service: how clients outside reach a backend on another node, `snat` or `dsr` (direct server return).
    pub const FORWARDING_MODE: &str = "xebec.io/forwarding-mode";
    /// On an EndpointSlice: the share of each of its endpoints in a Maglev table, 1 to 255.
    pub const LOAD_BALANCING_WEIGHT: &str = "xebec.io/load-balancing-weight";
    pub const REVISION: &str = "deployment.kubernetes.io/revision";
    pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
    pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
    pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
    pub const DEPRECATED_ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
    pub const POD_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    pub const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
    pub const LAST_CHANGE_TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
    pub const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
    pub const NODE_TTL: &str = "node.alpha.kubernetes.io/ttl";
    pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
    pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
    pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
    pub const DESCRIPTION: &str = "kubernetes.io/description";
    pub const DAEMONSET_TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
    pub const JOB_COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
    pub const JOB_INDEX_FAILURE_COUNT: &str = "batch.kubernetes.io/job-index-failure-count";
    pub const JOB_INDEX_IGNORED_FAILURE_COUNT: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
    pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
    pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
    pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
    pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
    pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
    pub const BETA_STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
    /// On a generated ResourceClaim: the name that it has in its pod.
    pub const POD_CLAIM_NAME: &str = "resource.kubernetes.io/pod-claim-name";
    pub const CRONJOB_SCHEDULED_TIMESTAMP: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
}

/// Taint keys and effects.
pub mod taint {
    pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
    pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
    pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
    pub const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
    pub const DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
    pub const PID_PRESSURE: &str = "node.kubernetes.io/pid-pressure";
    pub const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";
    pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

    pub const NO_SCHEDULE: &str = "NoSchedule";
    pub const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";
    pub const NO_EXECUTE: &str = "NoExecute";
}

/// Condition types and statuses.
pub mod condition {
    pub const TRUE: &str = "True";
    pub const FALSE: &str = "False";
    pub const UNKNOWN: &str = "Unknown";

    pub const POD_SCHEDULED: &str = "PodScheduled";
    pub const INITIALIZED: &str = "Initialized";
    pub const CONTAINERS_READY: &str = "ContainersReady";
    pub const READY: &str = "Ready";
    pub const DISRUPTION_TARGET: &str = "DisruptionTarget";

    pub const MEMORY_PRESSURE: &str = "MemoryPressure";
    pub const DISK_PRESSURE: &str = "DiskPressure";
    pub const PID_PRESSURE: &str = "PIDPressure";
    pub const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";

    pub const AVAILABLE: &str = "Available";
    pub const PROGRESSING: &str = "Progressing";
    pub const REPLICA_FAILURE: &str = "ReplicaFailure";

    pub const COMPLETE: &str = "Complete";
    pub const FAILED: &str = "Failed";
    pub const FAILURE_TARGET: &str = "FailureTarget";
    pub const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
    pub const SUSPENDED: &str = "Suspended";
}

/// Finalizers.
pub mod finalizer {
    pub const FOREGROUND_DELETION: &str = "foregroundDeletion";
    pub const ORPHAN: &str = "orphan";
    pub const KUBERNETES: &str = "kubernetes";
    pub const SERVICE_CIDR: &str = "networking.k8s.io/service-cidr-finalizer";
    pub const JOB_TRACKING: &str = "batch.kubernetes.io/job-tracking";
    /// Keeps a ResourceClaim while it is allocated.
    pub const DELETE_PROTECTION: &str = "resource.kubernetes.io/delete-protection";
}

/// Namespaces that exist in every cluster.
pub mod namespace {
    pub const DEFAULT: &str = "default";
    pub const KUBE_SYSTEM: &str = "kube-system";
    pub const KUBE_PUBLIC: &str = "kube-public";
    pub const KUBE_NODE_LEASE: &str = "kube-node-lease";
}

/// Certificate signers.
pub mod signer {
    pub const KUBE_APISERVER_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
    pub const KUBE_APISERVER_CLIENT_KUBELET: &str = "kubernetes.io/kube-apiserver-client-kubelet";
    pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
}
