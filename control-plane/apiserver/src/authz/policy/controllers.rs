//! Roles of the controllers, each bound to the account of that name in kube-system.

use super::{EVENTS, READ, Rule, named, rule};

const APPS: &str = "apps extensions";
const CERTIFICATES: &str = "certificates.k8s.io";
const DISCOVERY: &str = "discovery.k8s.io";

pub const ROLES: &[(&str, &[Rule])] = &[
    (
        "clusterrole-aggregation-controller",
        &[rule("escalate get list patch update watch", "rbac.authorization.k8s.io", "clusterroles")],
    ),
    (
        "deployment-controller",
        &[
            rule("get list update watch", APPS, "deployments"),
            rule("update", APPS, "deployments/status deployments/finalizers"),
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
            rule("update", "-", "namespaces/finalize namespaces/status"),
            rule("delete deletecollection get list", "*", "*"),
        ],
    ),
    (
        "node-controller",
        &[
            rule("get list update delete patch", "-", "nodes"),
            rule("patch update", "-", "nodes/status"),
            rule("patch update", "-", "pods/status"),
            rule("list delete watch get", "-", "pods"),
            rule("list watch", "networking.k8s.io", "clustercidrs"),
            EVENTS,
        ],
    ),
    (
        "pod-garbage-collector",
        &[rule("delete list watch", "-", "pods"), rule("get list", "-", "nodes"), rule("patch", "-", "pods/status")],
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
    ("root-ca-cert-publisher", &[rule("create update", "-", "configmaps"), EVENTS]),
    (
        "certificate-controller",
        &[
            rule("delete get list watch", CERTIFICATES, "certificatesigningrequests"),
            rule("update", CERTIFICATES, "certificatesigningrequests/approval certificatesigningrequests/status"),
            named("approve", CERTIFICATES, "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
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
            EVENTS,
        ],
    ),
];
