//! Roles of users, nodes and the parts of the control plane.

use super::Subject::{Account, Group, User};
use super::{EVENTS, NAMESPACE_PUBLIC, NAMESPACE_SYSTEM, READ, Rule, Subject, WRITE, named, rule, urls};

const APPS: &str = "apps extensions";
const RESOURCE: &str = "resource.k8s.io";
const SIGNERS: &str = "kubernetes.io/kube-apiserver-client-kubelet";

pub const CLUSTER_ROLES: &[(&str, &[Rule])] = &[
    ("cluster-admin", &[rule("*", "*", "*"), urls("*", "*")]),
    (
        "system:discovery",
        &[urls("get", "/livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*")],
    ),
    (
        "system:monitoring",
        &[urls("get", "/metrics /metrics/slis /livez /readyz /healthz /livez/* /readyz/* /healthz/*")],
    ),
    (
        "system:basic-user",
        &[
            rule("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
            rule("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    ("system:public-info-viewer", &[urls("get", "/livez /readyz /healthz /version /version/")]),
    ("system:node", NODE),
    (
        "system:node-proxier",
        &[
            rule("list watch", "-", "services endpoints"),
            rule(READ, "-", "nodes"),
            EVENTS,
            rule("list watch", "discovery.k8s.io", "endpointslices"),
        ],
    ),
    // An agent is kubelet, service proxy and DNS server in one, with one identity.
    (
        "xebec:node-network",
        &[rule(READ, "-", "services endpoints nodes namespaces"), rule(READ, "discovery.k8s.io", "endpointslices")],
    ),
    ("system:node-problem-detector", &[rule("get", "-", "nodes"), rule("patch", "-", "nodes/status"), EVENTS]),
    (
        "system:kubelet-api-admin",
        &[
            rule(READ, "-", "nodes"),
            rule("proxy", "-", "nodes"),
            rule("*", "-", "nodes/proxy nodes/metrics nodes/stats nodes/log nodes/configz nodes/healthz nodes/pods"),
        ],
    ),
    ("system:node-bootstrapper", &[rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests")]),
    (
        "system:auth-delegator",
        &[
            rule("create", "authentication.k8s.io", "tokenreviews"),
            rule("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    ("system:kube-aggregator", &[rule(READ, "-", "services endpoints")]),
    ("system:kube-controller-manager", CONTROLLER_MANAGER),
    ("system:kube-dns", &[rule("list watch", "-", "endpoints services")]),
    ("system:kube-scheduler", SCHEDULER),
    (
        "system:volume-scheduler",
        &[
            rule("get list patch update watch", "-", "persistentvolumes persistentvolumeclaims"),
            rule(READ, "storage.k8s.io", "storageclasses"),
        ],
    ),
    ("system:service-account-issuer-discovery", &[urls("get", "/.well-known/openid-configuration /openid/v1/jwks")]),
    (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[rule("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient")],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[rule("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &[named("approve", "certificates.k8s.io", "signers", SIGNERS)],
    ),
    (
        "system:certificates.k8s.io:kubelet-serving-approver",
        &[named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kubelet-serving")],
    ),
    (
        "system:certificates.k8s.io:legacy-unknown-approver",
        &[named("approve", "certificates.k8s.io", "signers", "kubernetes.io/legacy-unknown")],
    ),
];

/// Roles that gather the rules of others, and the role that they in turn are gathered by. Each gathers those below it.
pub const AGGREGATING: &[(&str, &str)] = &[("admin", ""), ("edit", "admin"), ("view", "edit")];

/// Roles that are gathered: name, by whom, rules.
pub const AGGREGATED: &[(&str, &str, &[Rule])] = &[
    (
        "system:aggregate-to-admin",
        "admin",
        &[
            rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
            rule(
                "create delete deletecollection get list patch update watch",
                "rbac.authorization.k8s.io",
                "roles rolebindings",
            ),
        ],
    ),
    ("system:aggregate-to-edit", "edit", EDIT),
    ("system:aggregate-to-view", "view", VIEW),
    // As metrics-server's manifests have it.
    ("system:aggregated-metrics-reader", "view", &[rule(READ, "metrics.k8s.io", "pods nodes")]),
];

const EDIT: &[Rule] = &[
    rule(READ, "-", "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy"),
    rule("impersonate", "-", "serviceaccounts"),
    rule(WRITE, "-", "pods pods/attach pods/proxy pods/exec pods/portforward"),
    rule("create", "-", "pods/eviction"),
    rule(
        WRITE,
        "-",
        "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/proxy persistentvolumeclaims configmaps secrets events",
    ),
    rule("create", "-", "serviceaccounts/token"),
    rule(
        WRITE,
        "apps",
        "statefulsets statefulsets/scale daemonsets deployments deployments/scale deployments/rollback replicasets replicasets/scale",
    ),
    rule(WRITE, "autoscaling", "horizontalpodautoscalers"),
    rule(WRITE, "batch", "jobs cronjobs"),
    rule(
        WRITE,
        "extensions",
        "daemonsets deployments deployments/scale deployments/rollback ingresses replicasets replicasets/scale replicationcontrollers/scale networkpolicies",
    ),
    rule(WRITE, "policy", "poddisruptionbudgets"),
    rule(WRITE, "networking.k8s.io", "networkpolicies ingresses"),
    rule("create delete deletecollection get list patch update watch", "coordination.k8s.io", "leases"),
    rule(WRITE, RESOURCE, "resourceclaims resourceclaimtemplates"),
];

const VIEW: &[Rule] = &[
    rule(
        READ,
        "-",
        "pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status endpoints persistentvolumeclaims persistentvolumeclaims/status configmaps",
    ),
    rule(
        READ,
        "-",
        "limitranges resourcequotas bindings events pods/status resourcequotas/status namespaces/status replicationcontrollers/status pods/log",
    ),
    rule(READ, "-", "namespaces"),
    rule(READ, "discovery.k8s.io", "endpointslices"),
    rule(
        READ,
        "apps",
        "controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets daemonsets/status deployments deployments/status deployments/scale replicasets replicasets/status replicasets/scale",
    ),
    rule(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    rule(READ, "batch", "jobs cronjobs cronjobs/status jobs/status"),
    rule(
        READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status replicasets replicasets/scale replicasets/status replicationcontrollers/scale networkpolicies",
    ),
    rule(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    rule(READ, "networking.k8s.io", "networkpolicies ingresses ingresses/status"),
    rule(READ, RESOURCE, "resourceclaims resourceclaims/status resourceclaimtemplates"),
];

/// `NodeRules`.
const NODE: &[Rule] = &[
    rule("create", "authentication.k8s.io", "tokenreviews"),
    rule("create", "authorization.k8s.io", "subjectaccessreviews localsubjectaccessreviews"),
    rule(READ, "-", "services"),
    rule("create get list watch", "-", "nodes"),
    rule("update patch", "-", "nodes/status"),
    rule("update patch", "-", "nodes"),
    EVENTS,
    rule(READ, "-", "pods"),
    rule("create delete", "-", "pods"),
    rule("update patch", "-", "pods/status"),
    rule("create", "-", "pods/eviction"),
    rule(READ, "-", "secrets configmaps"),
    rule("get", "-", "persistentvolumeclaims persistentvolumes"),
    rule("get", "-", "endpoints"),
    rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    rule("get create update patch delete", "coordination.k8s.io", "leases"),
    rule("get", "storage.k8s.io", "volumeattachments"),
    rule("create", "-", "serviceaccounts/token"),
    rule("get update patch", "-", "persistentvolumeclaims/status"),
    rule(READ, "storage.k8s.io", "csidrivers"),
    rule("get create update patch delete", "storage.k8s.io", "csinodes"),
    rule(READ, "node.k8s.io", "runtimeclasses"),
    rule("get", RESOURCE, "resourceclaims"),
];

const CONTROLLER_MANAGER: &[Rule] = &[
    EVENTS,
    rule("create", "coordination.k8s.io", "leases"),
    named("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
    rule("create", "-", "secrets serviceaccounts"),
    rule("delete", "-", "secrets"),
    rule("get", "-", "namespaces secrets serviceaccounts configmaps"),
    rule("update", "-", "secrets serviceaccounts"),
    rule("create", "authentication.k8s.io", "tokenreviews"),
    rule("create", "authorization.k8s.io", "subjectaccessreviews"),
    rule("list watch", "*", "*"),
    rule("create", "-", "serviceaccounts/token"),
];

const SCHEDULER: &[Rule] = &[
    EVENTS,
    rule("create", "coordination.k8s.io", "leases"),
    named("get update", "coordination.k8s.io", "leases", "kube-scheduler"),
    rule(READ, "-", "nodes"),
    rule("get list watch delete", "-", "pods"),
    rule("create", "-", "pods/binding bindings"),
    rule("patch update", "-", "pods/status"),
    rule(READ, "-", "replicationcontrollers services"),
    rule(READ, APPS, "replicasets"),
    rule(READ, "apps", "statefulsets"),
    rule(READ, "policy", "poddisruptionbudgets"),
    rule(READ, "-", "persistentvolumeclaims persistentvolumes"),
    rule("create", "authentication.k8s.io", "tokenreviews"),
    rule("create", "authorization.k8s.io", "subjectaccessreviews"),
    rule(READ, "storage.k8s.io", "csinodes csidrivers csistoragecapacities storageclasses"),
    rule("list watch", "-", "namespaces"),
    rule("get list patch update watch", RESOURCE, "resourceclaims resourceclaims/status"),
    rule(READ, RESOURCE, "deviceclasses resourceslices"),
];

/// Name, role, subjects.
pub const CLUSTER_BINDINGS: &[(&str, &str, &[Subject])] = &[
    ("cluster-admin", "cluster-admin", &[Group("system:masters")]),
    ("system:monitoring", "system:monitoring", &[Group("system:monitoring")]),
    ("system:discovery", "system:discovery", &[Group("system:authenticated")]),
    ("system:basic-user", "system:basic-user", &[Group("system:authenticated")]),
    (
        "system:public-info-viewer",
        "system:public-info-viewer",
        &[Group("system:authenticated"), Group("system:unauthenticated")],
    ),
    ("system:node-proxier", "system:node-proxier", &[User("system:kube-proxy"), Group("system:nodes")]),
    ("system:kube-controller-manager", "system:kube-controller-manager", &[User("system:kube-controller-manager")]),
    ("system:kube-dns", "system:kube-dns", &[Account(NAMESPACE_SYSTEM, "kube-dns")]),
    ("system:kube-scheduler", "system:kube-scheduler", &[User("system:kube-scheduler")]),
    ("system:volume-scheduler", "system:volume-scheduler", &[User("system:kube-scheduler")]),
    (
        "system:service-account-issuer-discovery",
        "system:service-account-issuer-discovery",
        &[Group("system:serviceaccounts")],
    ),
    // The Node authorizer grants these rules to nodes, as far as an object concerns them.
    ("system:node", "system:node", &[]),
    ("xebec:node-network", "xebec:node-network", &[Group("system:nodes")]),
    // What kubeadm adds, so that nodes can join with a bootstrap token.
    ("xebec:kubelet-bootstrap", "system:node-bootstrapper", &[Group("system:bootstrappers:xebec:default-node-token")]),
    (
        "xebec:node-autoapprove-bootstrap",
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[Group("system:bootstrappers:xebec:default-node-token")],
    ),
    (
        "xebec:node-autoapprove-certificate-rotation",
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[Group("system:nodes")],
    ),
];

/// Namespace, name, rules.
pub const ROLES: &[(&str, &str, &[Rule])] = &[
    (
        NAMESPACE_SYSTEM,
        "extension-apiserver-authentication-reader",
        &[named(READ, "-", "configmaps", "extension-apiserver-authentication")],
    ),
    (NAMESPACE_SYSTEM, "system:controller:bootstrap-signer", &[rule(READ, "-", "secrets")]),
    (NAMESPACE_SYSTEM, "system:controller:token-cleaner", &[rule("get list watch delete", "-", "secrets"), EVENTS]),
    (
        NAMESPACE_SYSTEM,
        "system::leader-locking-kube-controller-manager",
        &[rule("watch", "-", "configmaps"), named("get update", "-", "configmaps", "kube-controller-manager")],
    ),
    (
        NAMESPACE_SYSTEM,
        "system::leader-locking-kube-scheduler",
        &[rule("watch", "-", "configmaps"), named("get update", "-", "configmaps", "kube-scheduler")],
    ),
    (
        NAMESPACE_PUBLIC,
        "system:controller:bootstrap-signer",
        &[rule(READ, "-", "configmaps"), named("update", "-", "configmaps", "cluster-info"), EVENTS],
    ),
    (NAMESPACE_PUBLIC, "xebec:bootstrap-signer-clusterinfo", &[named("get", "-", "configmaps", "cluster-info")]),
];

/// Namespace, name, role, subjects.
pub const BINDINGS: &[(&str, &str, &str, &[Subject])] = &[
    (
        NAMESPACE_SYSTEM,
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &[User("system:kube-controller-manager"), User("system:kube-scheduler")],
    ),
    (
        NAMESPACE_SYSTEM,
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        &[User("system:kube-controller-manager"), Account(NAMESPACE_SYSTEM, "kube-controller-manager")],
    ),
    (
        NAMESPACE_SYSTEM,
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        &[User("system:kube-scheduler"), Account(NAMESPACE_SYSTEM, "kube-scheduler")],
    ),
    (
        NAMESPACE_SYSTEM,
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[Account(NAMESPACE_SYSTEM, "bootstrap-signer")],
    ),
    (
        NAMESPACE_SYSTEM,
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        &[Account(NAMESPACE_SYSTEM, "token-cleaner")],
    ),
    (
        NAMESPACE_PUBLIC,
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[Account(NAMESPACE_SYSTEM, "bootstrap-signer")],
    ),
    (
        NAMESPACE_PUBLIC,
        "xebec:bootstrap-signer-clusterinfo",
        "xebec:bootstrap-signer-clusterinfo",
        &[User("system:anonymous")],
    ),
];
