//! One row per resource, by group; in a group of several versions the one that is stored comes first.

use super::{Strs, Subresource};

const ALL: Strs = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const CREATE: Strs = &["create"];
const UPDATE: Strs = &["get", "patch", "update"];
const CONNECT: Strs = &["create", "get"];
const COMPUTED: Strs = &["get", "list"];

const fn own(name: &'static str, verbs: Strs) -> Subresource {
    Subresource { name, gvk: None, verbs }
}

const fn other(name: &'static str, gvk: (&'static str, &'static str, &'static str), verbs: Strs) -> Subresource {
    Subresource { name, gvk: Some(gvk), verbs }
}

/// HTTP to what is behind the object.
const fn proxy(options: &'static str) -> Subresource {
    other("proxy", ("", "v1", options), &["create", "delete", "get", "patch", "update"])
}

const STATUS: Subresource = own("status", UPDATE);
const SCALE: Subresource = other("scale", ("autoscaling", "v1", "Scale"), UPDATE);

/// Group, version, kind, plural, short names, categories.
pub type Names = (&'static str, &'static str, &'static str, &'static str, Strs, Strs);

pub struct Row(pub Names, pub bool, pub Strs, pub &'static [Subresource]);

const NAMESPACED: bool = true;
const CLUSTER: bool = false;

const RBAC: &str = "rbac.authorization.k8s.io";
const AUTHN: &str = "authentication.k8s.io";
const AUTHZ: &str = "authorization.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const METRICS: &str = "metrics.k8s.io";
const RESOURCE: &str = "resource.k8s.io";
const STORAGE: &str = "storage.k8s.io";

pub const ROWS: &[Row] = &[
    Row(("", "v1", "Binding", "bindings", &[], &[]), NAMESPACED, CREATE, &[]),
    Row(("", "v1", "ConfigMap", "configmaps", &["cm"], &[]), NAMESPACED, ALL, &[]),
    Row(("", "v1", "Endpoints", "endpoints", &["ep"], &[]), NAMESPACED, ALL, &[]),
    Row(("", "v1", "Event", "events", &["ev"], &[]), NAMESPACED, ALL, &[]),
    Row(("", "v1", "LimitRange", "limitranges", &["limits"], &[]), NAMESPACED, ALL, &[]),
    Row(
        ("", "v1", "Namespace", "namespaces", &["ns"], &[]),
        CLUSTER,
        &["create", "delete", "get", "list", "patch", "update", "watch"],
        &[own("finalize", &["update"]), STATUS],
    ),
    Row(("", "v1", "Node", "nodes", &["no"], &[]), CLUSTER, ALL, &[proxy("NodeProxyOptions"), STATUS]),
    Row(("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", &["pvc"], &[]), NAMESPACED, ALL, &[STATUS]),
    Row(("", "v1", "PersistentVolume", "persistentvolumes", &["pv"], &[]), CLUSTER, ALL, &[STATUS]),
    Row(
        ("", "v1", "Pod", "pods", &["po"], &["all"]),
        NAMESPACED,
        ALL,
        &[
            other("attach", ("", "v1", "PodAttachOptions"), CONNECT),
            other("binding", ("", "v1", "Binding"), CREATE),
            own("ephemeralcontainers", UPDATE),
            other("eviction", ("policy", "v1", "Eviction"), CREATE),
            other("exec", ("", "v1", "PodExecOptions"), CONNECT),
            own("log", &["get"]),
            other("portforward", ("", "v1", "PodPortForwardOptions"), CONNECT),
            proxy("PodProxyOptions"),
            own("resize", UPDATE),
            STATUS,
        ],
    ),
    Row(("", "v1", "PodTemplate", "podtemplates", &[], &[]), NAMESPACED, ALL, &[]),
    Row(
        ("", "v1", "ReplicationController", "replicationcontrollers", &["rc"], &["all"]),
        NAMESPACED,
        ALL,
        &[SCALE, STATUS],
    ),
    Row(("", "v1", "ResourceQuota", "resourcequotas", &["quota"], &[]), NAMESPACED, ALL, &[STATUS]),
    Row(("", "v1", "Secret", "secrets", &[], &[]), NAMESPACED, ALL, &[]),
    Row(
        ("", "v1", "ServiceAccount", "serviceaccounts", &["sa"], &[]),
        NAMESPACED,
        ALL,
        &[other("token", (AUTHN, "v1", "TokenRequest"), CREATE)],
    ),
    Row(
        ("", "v1", "Service", "services", &["svc"], &["all"]),
        NAMESPACED,
        ALL,
        &[proxy("ServiceProxyOptions"), STATUS],
    ),
    Row(
        (
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
            "customresourcedefinitions",
            &["crd", "crds"],
            &["api-extensions"],
        ),
        CLUSTER,
        ALL,
        &[STATUS],
    ),
    Row(("apps", "v1", "ControllerRevision", "controllerrevisions", &[], &[]), NAMESPACED, ALL, &[]),
    Row(("apps", "v1", "DaemonSet", "daemonsets", &["ds"], &["all"]), NAMESPACED, ALL, &[STATUS]),
    Row(("apps", "v1", "Deployment", "deployments", &["deploy"], &["all"]), NAMESPACED, ALL, &[SCALE, STATUS]),
    Row(("apps", "v1", "ReplicaSet", "replicasets", &["rs"], &["all"]), NAMESPACED, ALL, &[SCALE, STATUS]),
    Row(("apps", "v1", "StatefulSet", "statefulsets", &["sts"], &["all"]), NAMESPACED, ALL, &[SCALE, STATUS]),
    Row((AUTHN, "v1", "SelfSubjectReview", "selfsubjectreviews", &[], &[]), CLUSTER, CREATE, &[]),
    Row((AUTHN, "v1", "TokenReview", "tokenreviews", &[], &[]), CLUSTER, CREATE, &[]),
    Row((AUTHZ, "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", &[], &[]), NAMESPACED, CREATE, &[]),
    Row((AUTHZ, "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", &[], &[]), CLUSTER, CREATE, &[]),
    Row((AUTHZ, "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", &[], &[]), CLUSTER, CREATE, &[]),
    Row((AUTHZ, "v1", "SubjectAccessReview", "subjectaccessreviews", &[], &[]), CLUSTER, CREATE, &[]),
    Row(
        ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", &["hpa"], &["all"]),
        NAMESPACED,
        ALL,
        &[STATUS],
    ),
    Row(
        ("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", &["hpa"], &["all"]),
        NAMESPACED,
        ALL,
        &[STATUS],
    ),
    Row(("batch", "v1", "CronJob", "cronjobs", &["cj"], &["all"]), NAMESPACED, ALL, &[STATUS]),
    Row(("batch", "v1", "Job", "jobs", &[], &["all"]), NAMESPACED, ALL, &[STATUS]),
    Row(
        ("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests", &["csr"], &[]),
        CLUSTER,
        ALL,
        &[own("approval", UPDATE), STATUS],
    ),
    Row(("coordination.k8s.io", "v1", "Lease", "leases", &[], &[]), NAMESPACED, ALL, &[]),
    Row(("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", &[], &[]), NAMESPACED, ALL, &[]),
    Row(("events.k8s.io", "v1", "Event", "events", &["ev"], &[]), NAMESPACED, ALL, &[]),
    Row((METRICS, "v1beta1", "NodeMetrics", "nodes", &[], &[]), CLUSTER, COMPUTED, &[]),
    Row((METRICS, "v1beta1", "PodMetrics", "pods", &[], &[]), NAMESPACED, COMPUTED, &[]),
    Row((NETWORKING, "v1", "IngressClass", "ingressclasses", &[], &[]), CLUSTER, ALL, &[]),
    Row((NETWORKING, "v1", "Ingress", "ingresses", &["ing"], &[]), NAMESPACED, ALL, &[STATUS]),
    Row((NETWORKING, "v1", "IPAddress", "ipaddresses", &["ip"], &[]), CLUSTER, ALL, &[]),
    Row((NETWORKING, "v1", "NetworkPolicy", "networkpolicies", &["netpol"], &[]), NAMESPACED, ALL, &[]),
    Row((NETWORKING, "v1", "ServiceCIDR", "servicecidrs", &[], &[]), CLUSTER, ALL, &[STATUS]),
    Row(("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", &[], &[]), CLUSTER, ALL, &[]),
    Row(("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", &["pdb"], &[]), NAMESPACED, ALL, &[STATUS]),
    Row((RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", &[], &[]), CLUSTER, ALL, &[]),
    Row((RBAC, "v1", "ClusterRole", "clusterroles", &[], &[]), CLUSTER, ALL, &[]),
    Row((RBAC, "v1", "RoleBinding", "rolebindings", &[], &[]), NAMESPACED, ALL, &[]),
    Row((RBAC, "v1", "Role", "roles", &[], &[]), NAMESPACED, ALL, &[]),
    Row((RESOURCE, "v1", "DeviceClass", "deviceclasses", &[], &[]), CLUSTER, ALL, &[]),
    Row((RESOURCE, "v1", "ResourceClaim", "resourceclaims", &[], &[]), NAMESPACED, ALL, &[STATUS]),
    Row((RESOURCE, "v1", "ResourceClaimTemplate", "resourceclaimtemplates", &[], &[]), NAMESPACED, ALL, &[]),
    Row((RESOURCE, "v1", "ResourceSlice", "resourceslices", &[], &[]), CLUSTER, ALL, &[]),
    Row(("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", &["pc"], &[]), CLUSTER, ALL, &[]),
    Row((STORAGE, "v1", "CSIDriver", "csidrivers", &[], &[]), CLUSTER, ALL, &[]),
    Row((STORAGE, "v1", "CSINode", "csinodes", &[], &[]), CLUSTER, ALL, &[]),
    Row((STORAGE, "v1", "CSIStorageCapacity", "csistoragecapacities", &[], &[]), NAMESPACED, ALL, &[]),
    Row((STORAGE, "v1", "StorageClass", "storageclasses", &["sc"], &[]), CLUSTER, ALL, &[]),
    Row((STORAGE, "v1", "VolumeAttachment", "volumeattachments", &[], &[]), CLUSTER, ALL, &[STATUS]),
    Row((STORAGE, "v1", "VolumeAttributesClass", "volumeattributesclasses", &["vac"], &[]), CLUSTER, ALL, &[]),
];
