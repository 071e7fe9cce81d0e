//! What is served, as clients ask for it: aggregated discovery (KEP-3352) in two documents, and the
//! older form with a document per group and version.

use serde_json::{Value, json};
use xebec_machinery::GroupVersion;
use xebec_schema::{Resource, Subresource};

/// The media type of aggregated documents.
pub const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Groups in upstream's order of priority, which decides what `kubectl get events` means; others follow by name.
const PRIORITY: [&str; 9] = [
    "",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "certificates.k8s.io",
    "rbac.authorization.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
];

/// A view of the resources that are served.
pub struct Discovery<'a> {
    resources: &'a [Resource],
}

impl<'a> Discovery<'a> {
    pub fn new(resources: &'a [Resource]) -> Self {
        Self { resources }
    }

    /// `APIGroupDiscoveryList` for `/api` (`core`) or `/apis`.
    pub fn aggregated(&self, core: bool) -> Value {
        let groups = self.groups().into_iter().filter(|group| group.is_empty() == core);
        let items: Vec<_> = groups.map(|group| self.aggregated_group(group)).collect();
        json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
    }

    /// `APIVersions` for `/api`.
    pub fn core_versions(&self, server_address: &str) -> Value {
        json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
        })
    }

    /// `APIGroupList` for `/apis`.
    pub fn group_list(&self) -> Value {
        let groups = self.groups().into_iter().filter(|group| !group.is_empty());
        let groups: Vec<_> = groups.filter_map(|group| self.group_body(group)).collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    }

    /// `APIGroup` for `/apis/GROUP`; `None` when the group is not served.
    pub fn group(&self, group: &str) -> Option<Value> {
        let mut body = self.group_body(group)?;
        body["kind"] = "APIGroup".into();
        body["apiVersion"] = "v1".into();
        Some(body)
    }

    /// `APIResourceList` for `/api/v1` and `/apis/GROUP/VERSION`; `None` when the version is not served.
    pub fn resource_list(&self, version: &GroupVersion) -> Option<Value> {
        let resources: Vec<_> = self.of_version(&version.group, &version.version).flat_map(listed).collect();
        let group_version = version.to_string();
        (!resources.is_empty()).then(|| {
            json!({
                "kind": "APIResourceList", "apiVersion": "v1",
                "groupVersion": group_version, "resources": resources,
            })
        })
    }

    /// The root document: every path that answers.
    pub fn paths(&self) -> Value {
        let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
        for group in self.groups().into_iter().filter(|group| !group.is_empty()) {
            paths.push(format!("/apis/{group}"));
            paths.extend(self.versions(group).into_iter().map(|version| format!("/apis/{group}/{version}")));
        }
        let fixed = [
            "/.well-known/openid-configuration",
            "/healthz",
            "/livez",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/version",
        ];
        paths.extend(fixed.map(str::to_owned));
        json!({"paths": paths})
    }

    fn groups(&self) -> Vec<&'a str> {
        let mut groups: Vec<_> = self.resources.iter().map(|resource| resource.group).collect();
        let rank = |group: &str| PRIORITY.iter().position(|known| *known == group).unwrap_or(PRIORITY.len());
        groups.sort_by_key(|group| (rank(group), *group));
        groups.dedup();
        groups
    }

    fn versions(&self, group: &str) -> Vec<&'a str> {
        let mut versions: Vec<_> = self.resources.iter().filter(|r| r.group == group).map(|r| r.version).collect();
        versions.sort_unstable();
        versions.dedup();
        versions.sort_by_key(|version| std::cmp::Reverse(rank(version)));
        versions
    }

    fn of_version<'b>(&self, group: &'b str, version: &'b str) -> impl Iterator<Item = &'a Resource> + use<'a, 'b> {
        self.resources.iter().filter(move |resource| resource.group == group && resource.version == version)
    }

    fn aggregated_group(&self, group: &str) -> Value {
        let versions: Vec<_> = self
            .versions(group)
            .into_iter()
            .map(|version| {
                let resources: Vec<_> = self.of_version(group, version).map(aggregated_resource).collect();
                json!({"version": version, "resources": resources, "freshness": "Current"})
            })
            .collect();
        let mut item = json!({"metadata": {"creationTimestamp": null}, "versions": versions});
        if !group.is_empty() {
            item["metadata"]["name"] = group.into();
        }
        item
    }

    fn group_body(&self, group: &str) -> Option<Value> {
        let version = |version: &&str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
        let versions: Vec<_> = self.versions(group).iter().map(version).collect();
        let preferred = versions.first()?.clone();
        Some(json!({"name": group, "versions": versions, "preferredVersion": preferred}))
    }
}

/// How much a version is preferred: general availability over beta over alpha, then the higher number (`CompareKubeAwareVersionStrings`).
fn rank(version: &str) -> (u8, u32, u32) {
    let number = |text: &str| text.parse().unwrap_or(0);
    let text = version.strip_prefix('v').unwrap_or(version);
    for (stage, word) in [(1, "beta"), (0, "alpha")] {
        if let Some((major, minor)) = text.split_once(word) {
            return (stage, number(major), number(minor));
        }
    }
    (2, number(text), 0)
}

fn aggregated_resource(resource: &Resource) -> Value {
    let mut item = json!({
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    put_names(&mut item, resource);
    if !resource.subresources.is_empty() {
        item["subresources"] = resource.subresources.iter().map(|sub| aggregated_subresource(resource, sub)).collect();
    }
    item
}

fn aggregated_subresource(resource: &Resource, subresource: &Subresource) -> Value {
    let (group, version, kind) = subresource.gvk.unwrap_or((resource.group, resource.version, resource.kind));
    json!({
        "subresource": subresource.name,
        "responseKind": {"group": group, "version": version, "kind": kind},
        "verbs": subresource.verbs,
    })
}

/// A resource and its subresources, as rows of an `APIResourceList`.
fn listed(resource: &Resource) -> Vec<Value> {
    let mut own = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    put_names(&mut own, resource);
    let subresource = |sub: &Subresource| {
        let mut row = json!({
            "name": format!("{}/{}", resource.plural, sub.name),
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": sub.gvk.map_or(resource.kind, |(_, _, kind)| kind),
            "verbs": sub.verbs,
        });
        if let Some((group, version, _)) = sub.gvk {
            row["group"] = group.into();
            row["version"] = version.into();
        }
        row
    };
    std::iter::once(own).chain(resource.subresources.iter().map(subresource)).collect()
}

fn put_names(item: &mut Value, resource: &Resource) {
    if !resource.short_names.is_empty() {
        item["shortNames"] = resource.short_names.into();
    }
    if !resource.categories.is_empty() {
        item["categories"] = resource.categories.into();
    }
}

/// `/version`: the API that is served, and by what.
pub fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": concat!("v1.36.0+xebec-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/amd64", std::env::consts::OS),
    })
}

#[cfg(test)]
mod tests;
