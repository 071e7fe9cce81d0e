//! Roles of the controllers, each bound to the account of that name in kube-system: upstream's `controller_policy.go`.
//!
//! They add `patch` where our controllers write only the fields that they own (deployments, the status of namespaces and of
//! certificate requests), which upstream's write whole.

use super::{EVENTS, READ, Rule, named, rule};

const APPS: &str = "apps extensions";
const CERTIFICATES: &str = "certificates.k8s.io";
const DISCOVERY: &str = "discovery.k8s.io";
const BATCH: &str = "batch";
const NETWORKING: &str = "networking.k8s.io";
const RESOURCE: &str = "resource.k8s.io";
const STORAGE: &str = "storage.k8s.io";
const POD_OWNER: &str = "create delete list patch watch";

pub const ROLES: &[(&str, &[Rule])] = &[
    (
        "clusterrole-aggregation-controller",
        &[rule("escalate get list patch update watch", "rbac.authorization.k8s.io", "clusterroles")],
    ),
    (
        "deployment-controller",
        &[
            rule("get list update watch patch", APPS, "deployments"),
            rule("update patch", APPS, "deployments/status"),
            rule("update", APPS, "deployments/finalizers"),
            rule("create delete get list patch update watch", APPS, "replicasets"),
            rule("get list update watch", "-", "pods"),
            EVENTS,
        ],
    ),
    (
        "endpoint-controller",
        &[
            rule(READ, "-", "pods services"),
            rule("create delete get list update watch", "-", "endpoints"),
            rule("create", "-", "endpoints/restricted"),
            EVENTS,
        ],
    ),
    (
        "endpointslice-controller",
        &[
            rule(READ, "-", "nodes pods services"),
            rule("update", "-", "services/finalizers"),
            rule("create delete get list update watch", DISCOVERY, "endpointslices"),
            EVENTS,
        ],
    ),
    (
        "endpointslicemirroring-controller",
        &[
            rule(READ, "-", "endpoints services"),
            rule("update", "-", "services/finalizers endpoints/finalizers"),
            rule("create delete get list update watch", DISCOVERY, "endpointslices"),
            EVENTS,
        ],
    ),
    ("generic-garbage-collector", &[rule("delete get list patch update watch", "*", "*"), EVENTS]),
    (
        "namespace-controller",
        &[
            rule("delete get list watch", "-", "namespaces"),
            rule("update", "-", "namespaces/finalize"),
            rule("update patch", "-", "namespaces/status"),
            rule("delete deletecollection get list watch", "*", "*"),
        ],
    ),
    (
        "node-controller",
        &[
            rule("get list watch update delete patch", "-", "nodes"),
            rule("patch update", "-", "nodes/status"),
            rule("patch update", "-", "pods/status"),
            rule("list delete watch get", "-", "pods"),
            EVENTS,
        ],
    ),
    (
        "pod-garbage-collector",
        &[rule("delete list watch", "-", "pods"), rule(READ, "-", "nodes"), rule("patch", "-", "pods/status")],
    ),
    (
        "replicaset-controller",
        &[
            rule("get list update watch", APPS, "replicasets"),
            rule("update", APPS, "replicasets/status replicasets/finalizers"),
            rule("create delete list patch watch", "-", "pods"),
            EVENTS,
        ],
    ),
    ("service-account-controller", &[rule("create", "-", "serviceaccounts"), EVENTS]),
    (
        "tokens-controller",
        &[rule("get update", "-", "serviceaccounts"), rule("delete get update", "-", "secrets"), EVENTS],
    ),
    ("root-ca-cert-publisher", &[rule("create update", "-", "configmaps"), EVENTS]),
    (
        "certificate-controller",
        &[
            rule("delete get list watch", CERTIFICATES, "certificatesigningrequests"),
            rule("update patch", CERTIFICATES, "certificatesigningrequests/approval certificatesigningrequests/status"),
            // Upstream approves no serving certificates by itself; ours does, for addresses that the node has.
            named(
                "approve",
                CERTIFICATES,
                "signers",
                "kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving",
            ),
            named(
                "sign",
                CERTIFICATES,
                "signers",
                "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown",
            ),
            rule("create", "authorization.k8s.io", "subjectaccessreviews"),
            EVENTS,
        ],
    ),
    ("ttl-controller", &[rule("list patch update watch", "-", "nodes"), EVENTS]),
    (
        "service-controller",
        &[
            rule(READ, "-", "services"),
            rule("patch update", "-", "services/status"),
            rule("list watch", "-", "nodes"),
            // Ours alone: upstream's cloud providers have pools of their own.
            rule("create patch", "apiextensions.k8s.io", "customresourcedefinitions"),
            rule("get list watch patch", "xebec.io", "loadbalancerippools"),
            rule("patch", "xebec.io", "loadbalancerippools/status"),
            EVENTS,
        ],
    ),
    (
        "cronjob-controller",
        &[
            rule("get list update watch", BATCH, "cronjobs"),
            rule("create delete get list patch update watch", BATCH, "jobs"),
            rule("update", BATCH, "cronjobs/status cronjobs/finalizers"),
            rule("delete list watch", "-", "pods"),
            EVENTS,
        ],
    ),
    (
        "daemon-set-controller",
        &[
            rule(READ, APPS, "daemonsets"),
            rule("update", APPS, "daemonsets/status daemonsets/finalizers"),
            rule("list watch", "-", "nodes"),
            rule(POD_OWNER, "-", "pods"),
            rule("create", "-", "pods/binding"),
            rule("create delete get list patch update watch", "apps", "controllerrevisions"),
            EVENTS,
        ],
    ),
    (
        "disruption-controller",
        &[
            rule(READ, APPS, "deployments replicasets"),
            rule(READ, "-", "replicationcontrollers"),
            rule(READ, "policy", "poddisruptionbudgets"),
            rule(READ, "apps", "statefulsets"),
            rule("update", "policy", "poddisruptionbudgets/status"),
            rule("patch update", "-", "pods/status"),
            rule("get", "*", "*/scale"),
            EVENTS,
        ],
    ),
    (
        "horizontal-pod-autoscaler",
        &[
            rule(READ, "autoscaling", "horizontalpodautoscalers"),
            rule("update", "autoscaling", "horizontalpodautoscalers/status"),
            rule("get update", "*", "*/scale"),
            rule("list watch", "-", "pods"),
            rule("list watch", "metrics.k8s.io", "pods"),
            rule(READ, "custom.metrics.k8s.io external.metrics.k8s.io", "*"),
            EVENTS,
        ],
    ),
    (
        "job-controller",
        &[
            rule("get list patch update watch", BATCH, "jobs"),
            rule("update", BATCH, "jobs/status jobs/finalizers"),
            rule(POD_OWNER, "-", "pods"),
            EVENTS,
        ],
    ),
    (
        "persistent-volume-binder",
        &[
            rule("create delete get list update watch", "-", "persistentvolumes"),
            rule("update", "-", "persistentvolumes/status persistentvolumeclaims/status"),
            rule("get list update watch", "-", "persistentvolumeclaims"),
            rule("create delete get list watch", "-", "pods"),
            rule(READ, STORAGE, "storageclasses"),
            rule("list watch", "-", "nodes"),
            EVENTS,
        ],
    ),
    ("pv-protection-controller", &[rule("get list update watch", "-", "persistentvolumes"), EVENTS]),
    (
        "pvc-protection-controller",
        &[rule("get list update watch", "-", "persistentvolumeclaims"), rule(READ, "-", "pods"), EVENTS],
    ),
    (
        "replication-controller",
        &[
            rule("get list update watch", "-", "replicationcontrollers"),
            rule("update", "-", "replicationcontrollers/status replicationcontrollers/finalizers"),
            rule(POD_OWNER, "-", "pods"),
            EVENTS,
        ],
    ),
    (
        "resource-claim-controller",
        &[
            rule(READ, "-", "pods"),
            rule("update", "-", "pods/finalizers"),
            rule("patch update", "-", "pods/status"),
            rule("create delete get list patch update watch", RESOURCE, "resourceclaims"),
            rule("patch update", RESOURCE, "resourceclaims/status"),
            rule(READ, RESOURCE, "resourceclaimtemplates"),
            EVENTS,
        ],
    ),
    ("resourcequota-controller", &[rule("list watch", "*", "*"), rule("update", "-", "resourcequotas/status"), EVENTS]),
    (
        "service-cidrs-controller",
        &[
            rule("get list patch update watch", NETWORKING, "servicecidrs"),
            rule("patch update", NETWORKING, "servicecidrs/finalizers servicecidrs/status"),
            rule(READ, NETWORKING, "ipaddresses"),
            EVENTS,
        ],
    ),
    (
        "statefulset-controller",
        &[
            rule(READ, "apps", "statefulsets"),
            rule("update", "apps", "statefulsets/status statefulsets/finalizers"),
            rule("create delete get list patch update watch", "-", "pods"),
            rule("update", "-", "pods/finalizers"),
            rule("create delete get list patch update watch", "apps", "controllerrevisions"),
            rule("create delete get list update watch", "-", "persistentvolumeclaims"),
            EVENTS,
        ],
    ),
    (
        "legacy-service-account-token-cleaner",
        &[
            named("get", "-", "configmaps", "kube-apiserver-legacy-service-account-token-tracking"),
            rule("delete patch", "-", "secrets"),
            // Informers of pods leave out what names Secrets.
            rule("list", "-", "pods"),
        ],
    ),
    ("ttl-after-finished-controller", &[rule("delete get list watch", BATCH, "jobs"), EVENTS]),
    // The Service of the nodes' own DNS server: upstream leaves it to an add-on manager.
    (
        "cluster-dns",
        &[rule("create get", "-", "services"), rule("create delete get update", DISCOVERY, "endpointslices")],
    ),
];
