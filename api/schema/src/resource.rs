//! The resources that are served, with what no definition says: names, scope, verbs, subresources.

use std::collections::HashMap;

use xebec_machinery::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};

use crate::table::DefId;

type Strs = &'static [&'static str];

/// A part of an object with a path of its own: `pods/log`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subresource {
    pub name: &'static str,
    /// Group, version and kind of the body; none for the kind of the resource itself.
    pub gvk: Option<(&'static str, &'static str, &'static str)>,
    pub verbs: Strs,
}

/// A kind of object that the API serves.
#[derive(Clone, Copy, Debug)]
pub struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: Strs,
    pub categories: Strs,
    pub namespaced: bool,
    pub verbs: Strs,
    pub subresources: &'static [Subresource],
    pub def: DefId,
}

impl Resource {
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(self.group, self.version)
    }

    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(self.group, self.version, self.kind)
    }

    pub fn gvr(&self) -> GroupVersionResource {
        GroupVersionResource::new(self.group, self.version, self.plural)
    }

    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group, self.plural)
    }

    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(self.group, self.kind)
    }

    /// What objects of this resource say as `apiVersion`.
    pub fn api_version(&self) -> String {
        self.group_version().to_string()
    }

    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}

const ALL: Strs = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const CREATE: Strs = &["create"];
const UPDATE: Strs = &["get", "patch", "update"];
const CONNECT: Strs = &["create", "get"];

const fn own(name: &'static str, verbs: Strs) -> Subresource {
    Subresource { name, gvk: None, verbs }
}

const fn other(name: &'static str, gvk: (&'static str, &'static str, &'static str), verbs: Strs) -> Subresource {
    Subresource { name, gvk: Some(gvk), verbs }
}

const STATUS: Subresource = own("status", UPDATE);
const SCALE: Subresource = other("scale", ("autoscaling", "v1", "Scale"), UPDATE);

/// Group, version, kind, plural, short names, categories.
type Names = (&'static str, &'static str, &'static str, &'static str, Strs, Strs);

struct Row(Names, bool, Strs, &'static [Subresource]);

const NAMESPACED: bool = true;
const CLUSTER: bool = false;

const RBAC: &str = "rbac.authorization.k8s.io";
const AUTHN: &str = "authentication.k8s.io";
const AUTHZ: &str = "authorization.k8s.io";

const ROWS: &[Row] = &[
    Row(("", "v1", "Binding", "bindings", &[], &[]), NAMESPACED, CREATE, &[]),
    Row(("", "v1", "ConfigMap", "configmaps", &["cm"], &[]), NAMESPACED, ALL, &[]),
    Row(("", "v1", "Endpoints", "endpoints", &["ep"], &[]), NAMESPACED, ALL, &[]),
    Row(("", "v1", "Event", "events", &["ev"], &[]), NAMESPACED, ALL, &[]),
    Row(
        ("", "v1", "Namespace", "namespaces", &["ns"], &[]),
        CLUSTER,
        &["create", "delete", "get", "list", "patch", "update", "watch"],
        &[own("finalize", &["update"]), STATUS],
    ),
    Row(("", "v1", "Node", "nodes", &["no"], &[]), CLUSTER, ALL, &[STATUS]),
    Row(
        ("", "v1", "Pod", "pods", &["po"], &["all"]),
        NAMESPACED,
        ALL,
        &[
            other("attach", ("", "v1", "PodAttachOptions"), CONNECT),
            other("binding", ("", "v1", "Binding"), CREATE),
            other("eviction", ("policy", "v1", "Eviction"), CREATE),
            other("exec", ("", "v1", "PodExecOptions"), CONNECT),
            own("log", &["get"]),
            other("portforward", ("", "v1", "PodPortForwardOptions"), CONNECT),
            STATUS,
        ],
    ),
    Row(("", "v1", "Secret", "secrets", &[], &[]), NAMESPACED, ALL, &[]),
    Row(
        ("", "v1", "ServiceAccount", "serviceaccounts", &["sa"], &[]),
        NAMESPACED,
        ALL,
        &[other("token", (AUTHN, "v1", "TokenRequest"), CREATE)],
    ),
    Row(("", "v1", "Service", "services", &["svc"], &["all"]), NAMESPACED, ALL, &[STATUS]),
    Row(("apps", "v1", "ControllerRevision", "controllerrevisions", &[], &[]), NAMESPACED, ALL, &[]),
    Row(("apps", "v1", "Deployment", "deployments", &["deploy"], &["all"]), NAMESPACED, ALL, &[SCALE, STATUS]),
    Row(("apps", "v1", "ReplicaSet", "replicasets", &["rs"], &["all"]), NAMESPACED, ALL, &[SCALE, STATUS]),
    Row((AUTHN, "v1", "SelfSubjectReview", "selfsubjectreviews", &[], &[]), CLUSTER, CREATE, &[]),
    Row((AUTHN, "v1", "TokenReview", "tokenreviews", &[], &[]), CLUSTER, CREATE, &[]),
    Row((AUTHZ, "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", &[], &[]), NAMESPACED, CREATE, &[]),
    Row((AUTHZ, "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", &[], &[]), CLUSTER, CREATE, &[]),
    Row((AUTHZ, "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", &[], &[]), CLUSTER, CREATE, &[]),
    Row((AUTHZ, "v1", "SubjectAccessReview", "subjectaccessreviews", &[], &[]), CLUSTER, CREATE, &[]),
    Row(
        ("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests", &["csr"], &[]),
        CLUSTER,
        ALL,
        &[own("approval", UPDATE), STATUS],
    ),
    Row(("coordination.k8s.io", "v1", "Lease", "leases", &[], &[]), NAMESPACED, ALL, &[]),
    Row(("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", &[], &[]), NAMESPACED, ALL, &[]),
    Row(("events.k8s.io", "v1", "Event", "events", &["ev"], &[]), NAMESPACED, ALL, &[]),
    Row((RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", &[], &[]), CLUSTER, ALL, &[]),
    Row((RBAC, "v1", "ClusterRole", "clusterroles", &[], &[]), CLUSTER, ALL, &[]),
    Row((RBAC, "v1", "RoleBinding", "rolebindings", &[], &[]), NAMESPACED, ALL, &[]),
    Row((RBAC, "v1", "Role", "roles", &[], &[]), NAMESPACED, ALL, &[]),
];

/// The rows whose kind the table defines: all of them, as a test checks.
pub(crate) fn rows(by_kind: &HashMap<(&'static str, &'static str, &'static str), DefId>) -> Vec<Resource> {
    let row = |Row((group, version, kind, plural, short_names, categories), namespaced, verbs, subresources): &Row| {
        Some(Resource {
            group,
            version,
            kind,
            plural,
            singular: kind.to_lowercase().leak(),
            short_names,
            categories,
            namespaced: *namespaced,
            verbs,
            subresources,
            def: *by_kind.get(&(*group, *version, *kind))?,
        })
    };
    let resources: Vec<_> = ROWS.iter().filter_map(row).collect();
    debug_assert_eq!(resources.len(), ROWS.len(), "a row names a kind without definition");
    resources
}
